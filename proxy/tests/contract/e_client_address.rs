//! E: the client's address, seen by which requests are counted together.

use crate::support::{Bench, K1, chat};

/// The statuses of requests with these `X-Forwarded-For`, one after the other, at two for each address.
fn statuses(variables: &[(&str, &str)], forwarded: &[&str]) -> Vec<u16> {
    let limit = [("IP_RATE_LIMIT_REQUESTS", "2")];
    let all: Vec<_> = limit.iter().chain(variables).copied().collect();
    let bench = Bench::with(&all);
    let status = |lines: &&str| {
        let lines = lines.split('|').map(|value| format!("X-Forwarded-For: {value}\r\n"));
        let lines: String = lines.collect();
        bench.send(chat(&format!("Authorization: Bearer {K1}\r\n{lines}"))).status
    };
    forwarded.iter().map(status).collect()
}

#[test]
fn case_049_050_by_itself_it_is_the_other_end_of_the_connection() {
    let each_another = ["1.1.1.1", "2.2.2.2", "3.3.3.3"];
    assert_eq!(statuses(&[], &each_another), [200, 200, 429]);
    assert_eq!(statuses(&[("TRUST_PROXY", "no")], &each_another), [200, 200, 429]);
}

#[test]
fn case_042_051_with_a_trusted_proxy_it_is_what_that_says() {
    let trust = [("TRUST_PROXY", "true")];
    let each = [
        "1.1.1.1",
        "1.1.1.1",
        " 1.1.1.1 ",
        "2.2.2.2",
        "2001:db8::1",
        "[2001:db8::2]:5",
        "2001:db8::3",
    ];
    assert_eq!(statuses(&trust, &each), [200, 200, 429, 200, 200, 200, 429]);
    for yes in ["1", "YES"] {
        assert_eq!(statuses(&[("TRUST_PROXY", yes)], &["1.1.1.1", "2.2.2.2", "3.3.3.3"]), [200; 3]);
    }
}

/// One trusted proxy wrote the right-most entry; what stands before it is the client's own word. The reference took the
/// left-most, so that everybody passed who invented one.
#[test]
fn case_052_invented_addresses_do_not_help() {
    let trust = [("TRUST_PROXY", "true")];
    let forged = ["6.6.6.1, 1.1.1.1", "6.6.6.2, 1.1.1.1", "6.6.6.3, 1.1.1.1", "6.6.6.4|1.1.1.1"];
    assert_eq!(statuses(&trust, &forged), [200, 200, 429, 429]);
}

/// Case 51's list of two, with the two proxies that it stands for.
#[test]
fn case_051_052_as_many_proxies_as_there_are() {
    let two = [("TRUST_PROXY", "true"), ("PROXY_TRUSTED_HOPS", "2")];
    let listed =
        ["  1.2.3.4 , 5.6.7.8 ", "1.2.3.4,5.6.7.9", "1.2.3.4, 9.9.9.9", "9.9.9.9, 5.6.7.8"];
    assert_eq!(statuses(&two, &listed), [200, 200, 429, 200]);
    let networks = [("TRUST_PROXY", "true"), ("PROXY_TRUSTED_HOPS", "127.0.0.0/8, 10.0.0.0/8")];
    let listed =
        ["6.6.6.6, 1.2.3.4, 10.0.0.7", "1.2.3.4", "1.2.3.4, 10.1.1.1, 10.0.0.7", "6.6.6.6"];
    assert_eq!(statuses(&networks, &listed), [200, 200, 429, 200]);
    let elsewhere = [("TRUST_PROXY", "true"), ("PROXY_TRUSTED_HOPS", "10.0.0.0/8")];
    assert_eq!(statuses(&elsewhere, &["1.1.1.1", "2.2.2.2", "3.3.3.3"]), [200, 200, 429]);
}

#[test]
fn what_is_no_address_is_counted_with_the_proxy_that_passed_it_on() {
    let trust = [("TRUST_PROXY", "true")];
    let garbage = ["garbage", "1.1.1.1, <script>", "", "1.1.1.1,,"];
    assert_eq!(statuses(&trust, &garbage), [200, 200, 429, 429]);
}
