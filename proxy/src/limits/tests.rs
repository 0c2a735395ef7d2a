//! The limits together, at times that the tests say.

use super::*;

const SECOND: Age = 1_000_000;
const ADDRESS: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn numbers(requests: u64) -> Numbers {
    Numbers::new([requests, 60, 3, 60]).unwrap()
}

fn key(id: &str) -> ApiKey {
    ApiKey { id: id.to_owned(), ..ApiKey::default() }
}

fn spending(spent: i64) -> Spending<impl FnOnce() -> Money> {
    // 2026-11-23T12:00:00Z
    Spending { month: Month::of(1_795_435_200), spent: move || Money::from_nanos(spent) }
}

/// A request at that time that uses nothing.
fn asks(limits: &Arc<Limits>, now: Age, key: &ApiKey, all: u64) -> Result<Quota, Exceeded> {
    let admitted = limits.admit_at(now, key, &numbers(all), Demand::NOTHING, spending(0));
    admitted.map(|admitted| admitted.standing().requests)
}

fn demand(tokens: u64) -> Demand {
    Demand::of_tokens(tokens)
}

#[test]
fn case_34_to_36_all_keys_together() {
    let limits = Arc::new(Limits::new());
    for n in 0..3 {
        let quota = asks(&limits, n * SECOND, &key(&n.to_string()), 3).unwrap();
        let reset = Duration::from_secs(60 - n);
        assert_eq!(quota, Quota { limit: 3, remaining: 2 - n, reset });
    }
    for n in 3..60 {
        let refused = asks(&limits, n * SECOND, &key("k"), 3).unwrap_err();
        let wait = Duration::from_secs(60 - n);
        assert_eq!(refused, Exceeded { what: Limit::Global, limit: 3, remaining: 0, wait });
    }
    assert!(asks(&limits, 60 * SECOND, &key("k"), 3).is_ok(), "refusals extend nothing");
    assert!(asks(&limits, 60 * SECOND, &key("k"), 3).is_err());
    assert!(asks(&limits, 60 * SECOND, &key("k"), 4).is_ok(), "settings hold at once");
}

#[test]
fn case_38_to_40_and_43_each_key() {
    let limits = Arc::new(Limits::new());
    let five = ApiKey { rate_limit: Some(5), ..key("five") };
    for n in 0..5 {
        let quota = asks(&limits, 0, &five, 100).unwrap();
        assert_eq!((quota.limit, quota.remaining), (5, 4 - n));
    }
    let refused = asks(&limits, SECOND, &five, 100).unwrap_err();
    assert_eq!((refused.what, refused.wait), (Limit::Key, Duration::from_secs(59)));
    assert!(asks(&limits, SECOND, &key("other"), 100).is_ok());
    assert!(asks(&limits, 60 * SECOND, &five, 100).is_ok());

    let none = ApiKey { rate_limit: Some(0), ..key("none") };
    let refused = asks(&limits, SECOND, &none, 100).unwrap_err();
    assert_eq!((refused.what, refused.wait), (Limit::Key, Duration::from_secs(60)));
}

#[test]
fn case_46_who_is_refused_costs_nobody_anything() {
    let limits = Arc::new(Limits::new());
    let two = ApiKey { rate_limit: Some(2), ..key("two") };
    for _ in 0..50 {
        let _ = asks(&limits, 0, &two, 10);
    }
    for _ in 0..8 {
        assert!(asks(&limits, 0, &key("other"), 10).is_ok(), "two of ten are gone");
    }
    // And the other way round: all keys' limit in the way costs a key nothing of its own.
    let limits = Arc::new(Limits::new());
    let refused = asks(&limits, 0, &key("other"), 1).and_then(|_| asks(&limits, 0, &two, 1));
    assert_eq!(refused.unwrap_err().what, Limit::Global);
    assert_eq!(asks(&limits, 0, &two, 10).unwrap().remaining, 1);
}

#[test]
fn case_41_addresses() {
    let limits = Limits::new();
    for _ in 0..3 {
        limits.enter_at(0, ADDRESS, &numbers(1)).unwrap();
    }
    let refused = limits.enter_at(SECOND, ADDRESS, &numbers(1)).unwrap_err();
    assert_eq!((refused.what, refused.limit), (Limit::Address, 3));
    assert!(refused.to_string().contains("IP"));
    limits.enter_at(SECOND, [1, 2, 3, 4].into(), &numbers(1)).unwrap();
    limits.enter_at(60 * SECOND, ADDRESS, &numbers(1)).unwrap();
}

#[test]
fn tokens_are_set_aside_counted_and_given_back() {
    let limits = Arc::new(Limits::new());
    let key = ApiKey { tokens_per_minute: Some(1000), ..key("k") };
    let admit =
        |tokens| limits.admit_at(limits.age(), &key, &numbers(100), demand(tokens), spending(0));
    let left = || limits.standing(&key, &numbers(100)).0.tokens.unwrap().remaining;
    let one = admit(400).unwrap();
    let other = admit(400).unwrap();
    assert_eq!(other.standing().tokens.unwrap().remaining, 200);
    let refused = admit(400).err().unwrap();
    assert_eq!((refused.what, refused.limit, refused.remaining), (Limit::Tokens, 1000, 200));
    assert_eq!(refused.wait, SOON, "nobody knows when the calls end");
    one.end(50);
    assert_eq!(left(), 550);
    drop(other);
    assert_eq!(left(), 950, "who was not answered used nothing");
    admit(900).unwrap().end(5000);
    assert_eq!(left(), 0);
    let refused = admit(1).err().unwrap();
    assert!(refused.wait > Duration::from_secs(58) && refused.wait <= MINUTE, "{refused:?}");
    assert!(admit(0).is_ok(), "what takes no tokens is not held");
    assert_eq!(
        limits.standing(&key, &numbers(100)).0.requests.remaining,
        96,
        "refusals count nowhere"
    );
}

#[test]
fn a_call_that_is_alone_may_demand_more_than_there_is() {
    let limits = Arc::new(Limits::new());
    let limited = ApiKey { tokens_per_minute: Some(10), ..key("k") };
    let admit = |key: &ApiKey| limits.admit_at(0, key, &numbers(100), demand(1024), spending(0));
    let alone = admit(&limited).unwrap();
    assert!(admit(&limited).is_err());
    drop(alone);
    assert!(admit(&limited).is_ok());
    admit(&limited).unwrap().end(9);
    admit(&limited).expect("while there is anything left").end(1);
    assert!(admit(&limited).is_err(), "nothing is left");
    let none = ApiKey { tokens_per_minute: Some(0), ..key("none") };
    assert!(admit(&none).is_err(), "but not where there is nothing at all");
}

#[test]
fn a_budget_holds_on_whatever_is_paid() {
    let limits = Arc::new(Limits::new());
    let key = ApiKey { monthly_budget: Some(Money::from_nanos(1000)), ..key("k") };
    let admit =
        |tokens, spent| limits.admit_at(0, &key, &numbers(100), demand(tokens), spending(spent));
    let one = admit(600, 0).unwrap();
    assert!(admit(400, 0).is_ok());
    let refused = admit(401, 0).err().unwrap();
    let (what, wait) = (Limit::BudgetInFlight, SOON);
    assert_eq!((refused.what, refused.wait), (what, wait), "one in flight is in the way");
    assert!(admit(100, 400).is_err(), "what was spent meanwhile counts");
    drop(one);
    let alone = admit(100_000, 999).expect("alone, it may pass the budget once");
    assert!(admit(1, 999).is_err());
    assert!(admit(0, 999).is_ok(), "what sets nothing aside does not wait for it");
    drop(alone);
    let refused = admit(0, 1000).err().unwrap();
    assert_eq!(refused.what, Limit::Budget);
    assert_eq!(refused.wait, Duration::from_secs(1_796_083_200 - 1_795_435_200));
    let free = limits.admit_at(0, &key, &numbers(100), Demand::NOTHING, spending(1000));
    assert!(free.is_ok(), "who has spent all may still ask about the key");
}

/// What the body asks for takes the place of what the head told.
#[test]
fn what_a_request_asks_for_is_set_aside_or_it_is_not_counted() {
    let limits = Arc::new(Limits::new());
    let limited = ApiKey {
        tokens_per_minute: Some(1000),
        monthly_budget: Some(Money::from_nanos(2000)),
        rate_limit: Some(10),
        ..key("k")
    };
    let begin = || limits.admit(&limited, &numbers(100), demand(10), spending(0));
    let admit = || begin().ok().unwrap();
    let more =
        |admitted: Admitted, tokens| admitted.set_aside(&limited, demand(tokens), spending(0));
    let counted = |of: &ApiKey| 100 - limits.standing(of, &numbers(100)).0.requests.remaining;
    let one = more(admit(), 400).unwrap();
    assert_eq!(one.standing().tokens.unwrap().remaining, 600);
    let refused = more(admit(), 700).err().unwrap();
    assert_eq!((refused.what, refused.remaining, refused.wait), (Limit::Tokens, 600, SOON));
    assert_eq!(counted(&key("other")), 1, "of all keys");
    assert_eq!(counted(&limited), 91, "of its own ten");
    assert_eq!(limits.standing(&limited, &numbers(100)).1, Money::from_nanos(400));
    let other = more(admit(), 600).unwrap();
    assert!(begin().is_err(), "all is set aside");
    drop((one, other));

    // Who asks for more than there is gets it alone; of many that begin at once, the last.
    let (first, second) = (admit(), admit());
    assert!(more(first, 5000).is_err());
    let second = more(second, 5000).unwrap();
    assert!(begin().is_err());
    drop(second);
    let (standing, reserved) = limits.standing(&limited, &numbers(100));
    assert_eq!((standing.tokens.unwrap().remaining, reserved), (1000, Money::ZERO));

    let free = limits.admit(&key("free"), &numbers(100), demand(1), spending(0)).unwrap();
    assert!(free.set_aside(&key("free"), demand(1_000_000), spending(0)).is_ok());
}

#[test]
fn a_panic_gives_back_what_was_set_aside() {
    let limits = Arc::new(Limits::new());
    let key = ApiKey { tokens_per_minute: Some(1000), ..key("k") };
    let admitted = limits.admit_at(0, &key, &numbers(100), demand(900), spending(0)).unwrap();
    let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
        let _held = admitted;
        panic!("as a handler might");
    }));
    assert!(ended.is_err());
    assert!(limits.admit_at(0, &key, &numbers(100), demand(900), spending(0)).is_ok());
}

/// Many at once: never more than the limit is let through, and what is let through is all given back.
#[test]
fn parallel_calls_never_set_aside_more_than_the_limit() {
    let limits = Arc::new(Limits::new());
    let key = ApiKey { tokens_per_minute: Some(10_000), rate_limit: Some(400), ..key("k") };
    let numbers = numbers(1_000_000);
    let in_flight = std::sync::atomic::AtomicU64::new(0);
    let let_through = std::sync::atomic::AtomicU64::new(0);
    let order = std::sync::atomic::Ordering::SeqCst;
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                for _ in 0..500 {
                    let admitted = limits.admit(&key, &numbers, demand(1000), spending(0));
                    if let Ok(admitted) = admitted {
                        assert!(in_flight.fetch_add(1, order) < 10);
                        let_through.fetch_add(1, order);
                        std::thread::yield_now();
                        in_flight.fetch_sub(1, order);
                        admitted.end(1);
                    }
                }
            });
        }
    });
    let let_through = let_through.load(order);
    assert!((10..=400).contains(&let_through), "{let_through}");
    let (standing, reserved) = limits.standing(&key, &numbers);
    assert_eq!(standing.requests.remaining, 400 - let_through);
    assert_eq!(standing.tokens.unwrap().remaining, 10_000 - let_through);
    assert_eq!(reserved, Money::ZERO);
}
