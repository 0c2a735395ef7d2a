//! What a policy allows, and what is no policy.

use super::*;
use serde_json::json;

const ISSUER: &str = "https://maa.example";

fn claims() -> Map<String, Value> {
    let claims = json!({
        "type": "sevsnpvm",
        "debug": false,
        "svn": 104,
        "svn-text": "104",
        "nested": {"status": "good", "deeper": {"level": 3}},
        "list": [1],
        "nothing": null,
    });
    claims.as_object().unwrap().clone()
}

fn judge(conditions: &Value) -> bool {
    let mut authority = json!({"authority": ISSUER});
    for (name, value) in conditions.as_object().unwrap() {
        authority[name] = value.clone();
    }
    let policy = json!({"version": "1.0.0", "anyOf": [authority]});
    ReleasePolicy::parse(policy.to_string().as_bytes()).unwrap().allows(ISSUER, &claims())
}

fn one(claim: &str, operator: &str, operand: Value) -> bool {
    let mut condition = json!({"claim": claim});
    condition[operator] = operand;
    judge(&json!({"allOf": [condition]}))
}

#[test]
fn equals_coerces_text_to_the_kind_of_the_claim() {
    assert!(one("type", "equals", json!("sevsnpvm")));
    assert!(!one("type", "equals", json!("SEVSNPVM")));
    assert!(one("debug", "equals", json!("false")));
    assert!(one("debug", "equals", json!(false)));
    assert!(!one("debug", "equals", json!("0")));
    assert!(!one("debug", "equals", json!(0)));
    assert!(one("svn", "equals", json!("104")));
    assert!(one("svn", "equals", json!(104)));
    assert!(one("svn-text", "equals", json!(104)));
    assert!(!one("svn", "equals", json!("0104x")));
}

#[test]
fn order_is_numeric_whatever_is_text() {
    assert!(one("svn", "greaterOrEquals", json!("22")));
    assert!(one("svn-text", "greater", json!("22")));
    assert!(!one("svn", "greater", json!(104)));
    assert!(one("svn", "lessOrEquals", json!(104)));
    assert!(one("svn", "less", json!(104.5)));
    assert!(!one("type", "less", json!(1)));
    assert!(!one("debug", "less", json!(1)));
}

#[test]
fn a_missing_claim_satisfies_nothing_but_exists_false() {
    for operator in ["equals", "notEquals", "less", "greater"] {
        assert!(!one("absent", operator, json!("x")), "{operator}");
    }
    assert!(one("absent", "exists", json!(false)));
    assert!(!one("absent", "exists", json!(true)));
    assert!(one("svn", "exists", json!("true")));
    assert!(one("type", "notEquals", json!("sgx")));
    assert!(!one("type", "notEquals", json!("sevsnpvm")));
}

#[test]
fn dots_step_into_objects_and_only_plain_values_are_reached() {
    assert!(one("nested.status", "equals", json!("good")));
    assert!(one("nested.deeper.level", "equals", json!(3)));
    assert!(!one("nested.status.more", "exists", json!(true)));
    assert!(!one("nested", "exists", json!(true)));
    assert!(!one("list", "exists", json!(true)));
    assert!(!one("nothing", "exists", json!(true)));
}

#[test]
fn groups_nest_and_other_authorities_do_not_count() {
    let yes = json!({"claim": "svn", "equals": 104});
    let no = json!({"claim": "svn", "equals": 1});
    assert!(judge(&json!({"anyOf": [no, {"allOf": [yes, yes]}]})));
    assert!(!judge(&json!({"allOf": [yes, {"anyOf": [no, no]}]})));
    let policy = json!({"version": "1.0.0", "anyOf": [
        {"authority": "https://other.example", "allOf": [yes]},
        {"authority": ISSUER, "allOf": [no]},
    ]});
    let policy = ReleasePolicy::parse(policy.to_string().as_bytes()).unwrap();
    assert!(policy.names(ISSUER) && policy.names("https://other.example/"));
    assert!(!policy.names("https://maa.example.evil"));
    assert!(!policy.allows(ISSUER, &claims()));
    assert!(policy.allows("https://other.example", &claims()));
}

#[test]
fn whatever_the_grammar_does_not_know_is_refused() {
    let claim = json!({"claim": "a", "equals": 1});
    let policies = [
        json!({"version": "2.0.0", "anyOf": [{"authority": ISSUER, "allOf": [claim]}]}),
        json!({"version": "1.0.0"}),
        json!({"version": "1.0.0", "anyOf": []}),
        json!({"version": "1.0.0", "allOf": [{"authority": ISSUER, "allOf": [claim]}]}),
        json!({"version": "1.0.0", "anyOf": [{"authority": ISSUER, "allOf": []}]}),
        json!({"version": "1.0.0", "anyOf": [{"authority": ISSUER}]}),
        json!({"version": "1.0.0", "anyOf": [{"allOf": [claim]}]}),
        json!({"version": "1.0.0", "anyOf": [
            {"authority": "http://plain.example", "allOf": [claim]},
        ]}),
        json!({"version": "1.0.0", "anyOf": [
            {"authority": ISSUER, "allOf": [claim], "anyOf": [claim]},
        ]}),
        json!({"version": "1.0.0", "anyOf": [
            {"authority": ISSUER, "allOf": [{"claim": "a", "matches": "x"}]},
        ]}),
        json!({"version": "1.0.0", "anyOf": [
            {"authority": ISSUER, "allOf": [{"claim": "a", "equals": 1, "less": 2}]},
        ]}),
        json!({"version": "1.0.0", "anyOf": [
            {"authority": ISSUER, "allOf": [{"claim": "a", "equals": [1]}]},
        ]}),
        json!({"version": "1.0.0", "anyOf": [
            {"authority": ISSUER, "allOf": [{"claim": "a", "exists": "perhaps"}]},
        ]}),
    ];
    for policy in policies {
        let text = policy.to_string();
        assert!(ReleasePolicy::parse(text.as_bytes()).is_err(), "{text}");
    }
    let mut deep = claim;
    for _ in 0..MAX_DEPTH {
        deep = json!({"allOf": [deep]});
    }
    let policy = json!({"version": "1.0.0", "anyOf": [{"authority": ISSUER, "allOf": [deep]}]});
    assert!(ReleasePolicy::parse(policy.to_string().as_bytes()).is_err());
}

/// The member order of a policy that Key Vault gave back, recorded in the tests of Azure's
/// client library.
#[test]
fn the_stored_text_has_the_order_of_the_service() {
    let given = r#"{"anyOf": [{"allOf": [{"equals": "true", "claim": "sdk-test"}],
        "authority": "https://attestation.example/"}], "version": "1.0.0"}"#;
    let policy = ReleasePolicy::parse(given.as_bytes()).unwrap();
    assert_eq!(
        policy.canonical(),
        r#"{"version":"1.0.0","anyOf":[{"authority":"https://attestation.example/","allOf":[{"claim":"sdk-test","equals":"true"}]}]}"#
    );
    assert_eq!(ReleasePolicy::parse(policy.canonical().as_bytes()).unwrap(), policy);
}
