//! Who signed a token, and when.

use attestation::Trust;
use attestation::maa::{Issuer, TokenError, verify_token};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rcgen::{CertificateParams, KeyPair, PKCS_RSA_SHA256, SigningKey as _};
use serde_json::{Value, json};

use crate::mint::{Mint, NOW, URL, failures, header, mint, refused, times, verified, with};

#[test]
fn a_token_of_a_chosen_issuer_is_authentic_and_says_which_trust_it_rests_on() {
    let verified = verified(&mint().token(&times())).unwrap();
    assert_eq!(verified.trust(), Trust::NotProduction);
    let ids: Vec<&str> = verified.findings().iter().map(|finding| finding.check.id).collect();
    assert_eq!(ids, ["J1", "J2", "J3", "J4", "J5"]);
    let without_jku = with(header(), "/jku", Value::Null);
    assert_eq!(refused(&without_jku, &times()), [""; 0]);
}

#[test]
fn an_issuer_that_was_not_chosen_fails_j1_alone() {
    for iss in [json!(null), json!(1), json!("absent"), json!(""), json!(format!("{URL}/"))] {
        assert_eq!(refused(&header(), &with(times(), "/iss", iss)), ["J1"]);
    }
    let token = mint().token(&times());
    for issuers in [vec![], vec![Issuer { url: "https://other".to_owned(), ..mint().issuer() }]] {
        let Err(TokenError::Rejected(rejected)) = verify_token(&token, &issuers, NOW) else {
            panic!("accepted");
        };
        assert_eq!(failures(&rejected), ["J1"]);
    }
}

/// A verdict that no issuer stands behind names the weakest trust that could have.
#[test]
fn without_an_issuer_the_verdict_is_production_only_if_every_issuer_is() {
    let token = mint().token(&times());
    let other = |trust| Issuer { url: "https://other".to_owned(), trust, ..mint().issuer() };
    let trust = |issuers: &[Issuer]| match verify_token(&token, issuers, NOW) {
        Err(TokenError::Rejected(rejected)) => rejected.trust,
        _ => panic!("nobody signed it"),
    };
    let (real, made) = (other(Trust::Production), other(Trust::NotProduction));
    assert_eq!(trust(&[real.clone(), real.clone()]), Trust::Production);
    assert_eq!(trust(&[real, made.clone()]), Trust::NotProduction);
    assert_eq!(trust(&[made]), Trust::NotProduction);
}

#[test]
fn among_several_issuers_only_the_named_ones_keys_count() {
    let other = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap();
    let certificate = CertificateParams::default().self_signed(&other).unwrap().der().to_vec();
    let other = Mint { key: other, certificate };
    let named = Issuer { keys: other.jwks("theirs"), ..mint().issuer() };
    let elsewhere = Issuer { url: "https://elsewhere".to_owned(), ..mint().issuer() };
    let token = mint().token(&times());
    let Err(TokenError::Rejected(rejected)) = verify_token(&token, &[elsewhere, named], NOW) else {
        panic!("another issuer's key signed it");
    };
    assert_eq!(failures(&rejected), ["J2"]);
}

#[test]
fn a_key_that_is_not_the_issuers_fails_j2_alone() {
    for kid in [json!(null), json!("other"), json!("absent"), json!(""), json!(7)] {
        assert_eq!(refused(&with(header(), "/kid", kid), &times()), ["J2"]);
    }
    for jku in [json!("https://evil.example/certs"), json!(7), json!(format!("{URL}/certs/"))] {
        assert_eq!(refused(&with(header(), "/jku", jku), &times()), ["J2"]);
    }
}

#[test]
fn an_unusual_header_fails_j3_alone() {
    for (name, value) in [
        ("/typ", json!(null)),
        ("/typ", json!("jwt")),
        ("/x5c", json!([STANDARD.encode(&mint().certificate)])),
        ("/x5t", json!("AA")),
        ("/cty", json!("JWT")),
    ] {
        assert_eq!(refused(&with(header(), name, value), &times()), ["J3"], "{name}");
    }
    // What would change how the signature is verified stops that, too.
    for (name, value) in [
        ("/alg", json!("none")),
        ("/alg", json!("HS256")),
        ("/alg", json!("PS256")),
        ("/alg", json!(null)),
        ("/jwk", json!({})),
        ("/crit", json!([])),
    ] {
        assert_eq!(refused(&with(header(), name, value), &times()), ["J3", "J4"], "{name}");
    }
}

#[test]
fn another_signature_fails_j4_alone() {
    let good = mint().token(&times());
    let (input, signature) = good.rsplit_once('.').unwrap();
    let other = KeyPair::generate_for(&PKCS_RSA_SHA256).unwrap().sign(input.as_bytes()).unwrap();
    for signature in ["", "AAAA", &signature[4..], &URL_SAFE_NO_PAD.encode(other)] {
        assert_eq!(verified(&format!("{input}.{signature}")).err().unwrap(), ["J4"]);
    }
    let later = with(times(), "/exp", json!(NOW + 90_000));
    let payload = URL_SAFE_NO_PAD.encode(later.to_string());
    let (header, _) = input.split_once('.').unwrap();
    assert_eq!(verified(&format!("{header}.{payload}.{signature}")).err().unwrap(), ["J4"]);
}

#[test]
fn an_old_or_future_token_fails_j5_alone() {
    for (name, value) in [
        ("/iat", json!(NOW - 3600 - 61)),
        ("/iat", json!(NOW + 61)),
        ("/nbf", json!(NOW + 61)),
        ("/exp", json!(NOW - 60)),
        ("/exp", json!(NOW as f64 + 100.0)),
        ("/exp", json!((NOW + 100).to_string())),
        ("/iat", json!(-1)),
        ("/iat", json!(null)),
        ("/nbf", json!(null)),
        ("/exp", json!(null)),
    ] {
        let claims = with(times(), name, value.clone());
        assert_eq!(refused(&header(), &claims), ["J5"], "{name} {value}");
    }
    for (name, value) in [("/iat", NOW - 3660), ("/nbf", NOW + 60), ("/exp", NOW - 59)] {
        assert_eq!(refused(&header(), &with(times(), name, json!(value))), [""; 0], "{name}");
    }
}

#[test]
fn a_claim_that_stands_twice_is_no_token() {
    let claims = times().to_string();
    let twice = claims.replacen('{', r#"{"iss":"https://evil.example","#, 1);
    let token = mint().sign(&header().to_string(), &twice);
    let refused = verify_token(&token, &[mint().issuer()], NOW);
    assert!(matches!(refused, Err(TokenError::Syntax(_))));
    let header = header().to_string().replacen('{', r#"{"kid":"other","#, 1);
    let refused = verify_token(&mint().sign(&header, &claims), &[mint().issuer()], NOW);
    assert!(matches!(refused, Err(TokenError::Syntax(_))));
}
