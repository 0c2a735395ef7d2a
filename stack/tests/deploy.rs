//! What `deploy/` and `compose.yaml` say, held against what the binaries declare and what Azure accepts.

#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "helpers of tests"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value, json};
use service::Role;
use service::env::{COMMON, Class, Var};
use stack::RoleName;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn json_file(path: &str) -> Value {
    let text = std::fs::read_to_string(root().join(path)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn declared(role: &str) -> BTreeMap<&'static str, Var> {
    let own = match role {
        "attest-sidecar" => attest_sidecar::AttestSidecar::VARS,
        "log-sealer" => log_sealer::LogSealer::VARS,
        "proxy" => proxy::Proxy::VARS,
        "skr-sidecar" => skr_sidecar::SkrSidecar::VARS,
        other => panic!("{other} is no role"),
    };
    own.iter().chain(&COMMON).map(|var| (var.name, *var)).collect()
}

/// What the drop-in passes on by name is known where it arrives.
#[test]
fn what_the_drop_in_passes_on_is_attest_sidecars() {
    let known = declared("attest-sidecar");
    let own = declared("skr-sidecar");
    let passed = |var: &&Var| var.name.starts_with("ATTEST_") || var.name.starts_with("UVM_");
    let mut count = 0;
    for var in skr_sidecar::reference::VARS.iter().filter(passed) {
        assert_eq!(known[var.name].class, var.class, "{}", var.name);
        assert!(!own.contains_key(var.name), "{}", var.name);
        count += 1;
    }
    assert!(count > 10, "{count} variables");
}

fn template() -> Value {
    json_file("deploy/template.json")
}

fn group(template: &Value) -> &Value {
    template.pointer("/resources/0").unwrap()
}

fn containers(template: &Value) -> BTreeMap<&str, &Value> {
    let containers = group(template).pointer("/properties/containers").unwrap();
    containers
        .as_array()
        .unwrap()
        .iter()
        .map(|container| (container["name"].as_str().unwrap(), &container["properties"]))
        .collect()
}

/// Variables that the template leaves out although they are measured, and why that is right.
const LEFT_OUT: &[(&str, &str)] = &[
    (
        "API_KEYS_FILE",
        "a keys file on a mounted share is attacker input; it is for people who move over",
    ),
    ("AZURE_TENANT_ID", "a container group has a managed identity"),
    ("AZURE_FEDERATED_TOKEN_FILE", "a container group has a managed identity"),
    ("AZURE_AUTHORITY_HOST", "a container group has a managed identity"),
    ("CLIENT_ANCHORS_FILE", "AMD's and Microsoft's roots are believed"),
    (
        "CLIENT_POLICY_FILE",
        "keys for attested clients are in a keys file, which the template does not use",
    ),
    ("LOG_HEARTBEAT_SECONDS", "the default is right"),
    ("LOG_LIVE", "the log is for its readers only; whoever wants the live view adds the literal"),
    ("LOG_RECIPIENTS_FILE", "the readers are those of LOG_RECIPIENTS"),
    ("LOG_RECIPIENTS_SIGNER", "as LOG_RECIPIENTS_FILE"),
    ("LOG_RECIPIENTS_GROUP", "as LOG_RECIPIENTS_FILE"),
    ("LOG_RECIPIENTS_MIN_VERSION", "as LOG_RECIPIENTS_FILE"),
    ("ATTEST_MAA_HOSTS", "the configured instance is enough"),
    ("APPINSIGHTS_CONNECTION_STRING", "all metrics are sealed"),
    ("LOG_METRICS_ENDPOINT", "all metrics are sealed"),
    ("SKR_WRAP_KEYS", "nothing is wrapped in this group"),
    ("PROXY_METRICS_SECONDS", "once a minute is enough"),
    (
        "LOG_SEGMENT_SECONDS",
        "with LOG_SPOOL what it is unset is right, and its default is too long",
    ),
    ("LOG_SEGMENT_BYTES", "as LOG_SEGMENT_SECONDS: small segments unless many records come"),
    ("LOG_ENDPOINT", "the platform captures stdout"),
    ("LOG_IDENTITY_ENDPOINT", "stdout needs no token"),
    ("PROXY_PRICES_FILE", "the list that is built in"),
    ("ATTEST_MAA_USER_AGENT", "nothing is decided by it"),
    ("ATTEST_AZURE_CACHE_TEE_TYPE", "the machines of Azure's container groups are of one kind"),
    ("ATTEST_AZURE_CACHE_API_VERSION", "the only one"),
    ("ATTEST_AZURE_CACHE_CLIENT_ID", "the one of Azure's container groups"),
    ("SKR_VAULT_HOSTS", "Azure's vaults are allowed by their domain"),
    ("SKR_STATUS", "callers of the reference know its statuses"),
    ("SSL_CERT_FILE", "the public web's authorities are believed"),
    ("TLS_CERT_FILE", "the key is made in the group"),
    ("TLS_CERT_ROTATION", "half of a certificate's life is right"),
    ("TLS_KEY_FILE", "the key is made in the group"),
    ("TLS_KID", "the key is made in the group"),
    ("FORCE_HTTPS", "plain HTTP is not spoken"),
    ("TRUST_PROXY", "clients reach the group itself"),
    ("PROXY_TRUSTED_HOPS", "clients reach the group itself"),
    ("PROXY_METRICS_LISTEN", "the default is on loopback"),
    ("PROXY_METRICS_KEYS", "keys are not counted"),
    ("RATE_LIMIT_REQUESTS", "the default, until the admin pages change it"),
    ("RATE_LIMIT_WINDOW", "the default, until the admin pages change it"),
    ("IP_RATE_LIMIT_REQUESTS", "the default, until the admin pages change it"),
    ("IP_RATE_LIMIT_WINDOW", "the default, until the admin pages change it"),
    ("PROXY_MAX_BODY", "the default is enough for audio"),
    ("PROXY_STREAM_PADDING", "streams are padded by default"),
    ("UPSTREAM_FIRST_BYTE_TIMEOUT", "the default is right"),
    ("UPSTREAM_IDLE_TIMEOUT", "the default is right"),
    (
        "SETTINGS_FILE",
        "no volume is mounted there: what the admin pages change is kept where PROXY_STATE says",
    ),
    ("USAGE_FILE", "in a group it is the host's: it is brought in by hand"),
    ("UVM_SECURITY_CONTEXT_DIR", "set by the platform"),
    ("KEY_VAULT_URL", "only where a role has no default for it"),
];

#[test]
fn the_template_sets_what_the_binaries_declare_by_class() {
    let template = template();
    let roles: BTreeSet<&str> = RoleName::ALL.iter().map(|role| role.name()).collect();
    assert_eq!(containers(&template).keys().copied().collect::<BTreeSet<_>>(), roles);
    for (role, properties) in containers(&template) {
        let declared = declared(role);
        let mut set = BTreeSet::new();
        for variable in properties["environmentVariables"].as_array().unwrap() {
            let name = variable["name"].as_str().unwrap();
            let var =
                declared.get(name).unwrap_or_else(|| panic!("{role} does not declare {name}"));
            assert!(set.insert(name), "{role} sets {name} twice");
            let secure = variable.get("secureValue").is_some();
            assert_eq!(secure, var.class == Class::Sealed, "{role} {name} is {}", var.class);
            assert_ne!(secure, variable.get("value").is_some(), "{role} {name} has one value");
        }
        for var in declared.values().filter(|var| var.class == Class::Measured) {
            let left_out = LEFT_OUT.iter().any(|(name, _)| *name == var.name);
            assert!(
                set.contains(var.name) || left_out,
                "{role} leaves {} to its default, which no policy then names",
                var.name
            );
        }
    }
}

/// Nothing that the control plane's operator can read: secrets are in the envelope, and nowhere else.
#[test]
fn the_template_takes_no_secret_in_the_clear() {
    let template = template();
    let parameters = template["parameters"].as_object().unwrap();
    assert!(parameters.values().all(|parameter| parameter["type"] != "securestring"));
    let containers = containers(&template);
    let set = |role: &str, name: &str| {
        let variables = containers[role]["environmentVariables"].as_array().unwrap().iter();
        variables.filter(|variable| variable["name"] == name).count()
    };
    for (role, properties) in &containers {
        for variable in properties["environmentVariables"].as_array().unwrap() {
            assert!(variable.get("secureValue").is_none(), "{role} {variable}");
        }
    }
    assert_eq!(set("skr-sidecar", "SECRETS_ENVELOPE"), 1);
    assert_eq!(set("proxy", "PROXY_SECRETS"), 1);
}

#[test]
fn the_defaults_that_the_template_repeats_are_the_binaries_own() {
    // What differs from the default on purpose.
    let chosen = ["PORT", "TLS_MODE", "LOG_SINK", "LOG_SPOOL", "PROXY_SECRETS", "PROXY_STATE_KEY"];
    let template = template();
    for (role, properties) in containers(&template) {
        let declared = declared(role);
        for variable in properties["environmentVariables"].as_array().unwrap() {
            let name = variable["name"].as_str().unwrap();
            let value = variable["value"].as_str().unwrap_or("[secure]");
            let default = declared[name].default;
            if !value.starts_with('[') && !chosen.contains(&name) {
                assert_eq!(Some(value), default, "{role} {name}");
            }
        }
    }
}

/// What is kept lies in the group's own scratch, which ends with it. The host's shares, which it reads and writes, are mounted
/// nowhere; and no container sees what another keeps.
#[test]
fn volumes_are_the_groups_own_and_each_is_one_containers() {
    let template = template();
    let volumes = group(&template).pointer("/properties/volumes").unwrap().as_array().unwrap();
    let mut names: Vec<&str> = Vec::new();
    for volume in volumes {
        let name = volume["name"].as_str().unwrap();
        assert_eq!(*volume, json!({"name": name, "emptyDir": {}}));
        names.push(name);
    }
    let containers = containers(&template);
    let mut mounts = Vec::new();
    for (role, properties) in &containers {
        for mount in properties.get("volumeMounts").and_then(Value::as_array).into_iter().flatten()
        {
            let [name, path] = ["name", "mountPath"].map(|of| mount[of].as_str().unwrap());
            mounts.push((*role, name, path));
        }
    }
    assert_eq!(mounts, [("log-sealer", "spool", "/spool"), ("proxy", "state", "/state")]);
    assert_eq!(names, ["spool", "state"]);
    let variables = containers["log-sealer"]["environmentVariables"].as_array().unwrap();
    assert!(variables.contains(&json!({"name": "LOG_SPOOL", "value": "/spool"})));
    // one that is kept needs a key of the vault's that not everybody has
    let state = &template["parameters"]["proxyState"];
    assert_eq!(state["defaultValue"], "memory");
    assert!(state["metadata"]["description"].as_str().unwrap().contains("/state/proxy.db"));
}

#[test]
fn compose_keeps_what_outlives_a_container_where_the_template_does() {
    let text = std::fs::read_to_string(root().join("compose.yaml")).unwrap();
    let compose: Value = serde_yaml_ng::from_str(&text).unwrap();
    let services = &compose["services"];
    for (role, variable, value, volume) in [
        ("log-sealer", "LOG_SPOOL", "/spool", "spool:/spool"),
        ("proxy", "PROXY_STATE", "/state/proxy.db", "state:/state"),
    ] {
        assert_eq!(services[role]["environment"][variable], value);
        assert_eq!(services[role]["volumes"], json!([volume]));
    }
}

#[test]
fn compose_sets_only_what_the_binaries_declare() {
    let text = std::fs::read_to_string(root().join("compose.yaml")).unwrap();
    let compose: Value = serde_yaml_ng::from_str(&text).unwrap();
    for role in RoleName::ALL {
        let declared = declared(role.name());
        let service = &compose["services"][role.name()];
        let set = service["environment"].as_object().unwrap();
        for name in set.keys() {
            assert!(declared.contains_key(name.as_str()), "{role} does not declare {name}");
        }
        let image = service["image"].as_str().unwrap();
        assert_eq!(image, format!("privatemode-confidential/{role}:local"));
    }
    let published: Vec<&str> = compose["services"]
        .as_object()
        .unwrap()
        .iter()
        .filter(|(_, service)| service.get("ports").is_some())
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(published, ["group"], "only the holder of the namespace publishes a port");
    assert_eq!(compose["services"]["group"]["ports"], json!(["127.0.0.1:8443:8443"]));
}

fn schemas() -> Option<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "where the schemas lie is no configuration")]
    let (given, required) = (
        std::env::var_os("ARM_SCHEMAS_DIR"),
        std::env::var("VECTORS_REQUIRED").as_deref() == Ok("1"),
    );
    let folder = given.map_or_else(|| root().join("../shared/arm"), PathBuf::from);
    if folder.is_dir() {
        return Some(folder);
    }
    assert!(!required, "Azure's schemas are required, and {} has none", folder.display());
    println!("skipped: no schemas in {}", folder.display());
    None
}

const VERSIONS: [&str; 2] = ["2023-05-01", "2025-09-01"];

fn schema(folder: &Path, version: &str) -> Value {
    let file = folder.join(format!("Microsoft.ContainerInstance-{version}.json"));
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}

/// The validator of a container group; Azure's common definitions, which the schemas refer to, are an expression
/// in brackets.
fn validator(schema: &Value) -> jsonschema::Validator {
    let common = "https://schema.management.azure.com/schemas/common/definitions.json";
    let expression = json!({"definitions": {
        "expression": {"type": "string", "pattern": r"^\[([^\[].*)?\]$"}
    }});
    let mut whole = schema.clone();
    let resource = whole["resourceDefinitions"]["containerGroups"].take();
    whole["allOf"] = json!([resource]);
    whole.as_object_mut().unwrap().remove("resourceDefinitions");
    let registry = jsonschema::Registry::new().add(common, expression).unwrap().prepare().unwrap();
    jsonschema::options()
        .with_draft(jsonschema::Draft::Draft4)
        .with_registry(&registry)
        .build(&whole)
        .unwrap()
}

#[test]
fn the_template_validates_against_both_schema_versions() {
    let Some(folder) = schemas() else { return };
    for version in VERSIONS {
        let schema = schema(&folder, version);
        let validator = validator(&schema);
        let mut resource = group(&template()).clone();
        resource["apiVersion"] = version.into();
        let problems: Vec<String> = validator
            .iter_errors(&resource)
            .map(|error| format!("{error} at {}", error.instance_path()))
            .collect();
        assert!(problems.is_empty(), "{version}: {problems:#?}");

        // A validator that accepts anything would say the same.
        let mut wrong = resource.clone();
        wrong["properties"]["containers"][0]["properties"]["resources"] = json!(7);
        assert!(!validator.is_valid(&wrong), "{version} accepts nonsense");

        let unknown = unknown_members(
            &schema,
            &resource,
            &schema["resourceDefinitions"]["containerGroups"],
            "",
        );
        assert_eq!(unknown, [""; 0], "{version} does not know these");
        let mut typo = resource.clone();
        let group = typo["properties"].as_object_mut().unwrap();
        group.insert("ipAdress".to_owned(), json!({}));
        let unknown =
            unknown_members(&schema, &typo, &schema["resourceDefinitions"]["containerGroups"], "");
        assert_eq!(unknown, ["/properties/ipAdress"]);
    }
}

/// The schemas let any further member pass; a typing mistake would too. So members are looked up as well.
fn unknown_members(schema: &Value, instance: &Value, definition: &Value, at: &str) -> Vec<String> {
    let definition = resolve(schema, definition);
    let members = |object: &Map<String, Value>| -> Vec<String> {
        let Some(known) = definition.get("properties").and_then(Value::as_object) else {
            return Vec::new();
        };
        let open = definition.get("additionalProperties").is_some();
        let each = object.iter().flat_map(|(name, value)| {
            let path = format!("{at}/{name}");
            match known.get(name) {
                Some(definition) => unknown_members(schema, value, definition, &path),
                None if open || name == "type" || name == "apiVersion" => Vec::new(),
                None => vec![path],
            }
        });
        each.collect()
    };
    match instance {
        Value::Object(object) => members(object),
        Value::Array(items) => {
            let definition = definition.get("items").cloned().unwrap_or(Value::Null);
            let each = items.iter().enumerate().flat_map(|(n, item)| {
                unknown_members(schema, item, &definition, &format!("{at}/{n}"))
            });
            each.collect()
        }
        _ => Vec::new(),
    }
}

/// Follows references, and of alternatives takes the one that is not an expression.
fn resolve(schema: &Value, definition: &Value) -> Value {
    if let Some(reference) = definition.get("$ref").and_then(Value::as_str) {
        let local = reference.strip_prefix('#').and_then(|path| schema.pointer(path));
        return local.map_or(Value::Null, |found| resolve(schema, found));
    }
    match definition.get("oneOf").and_then(Value::as_array) {
        Some(alternatives) => resolve(schema, alternatives.first().unwrap_or(&Value::Null)),
        None => definition.clone(),
    }
}

#[test]
fn the_release_policy_is_the_seeds_and_stricter() {
    let policy = json_file("deploy/release-policy.json");
    let claims: BTreeMap<String, String> = policy
        .pointer("/anyOf/0/allOf")
        .unwrap()
        .as_array()
        .unwrap()
        .iter()
        .map(|one| {
            (one["claim"].as_str().unwrap().to_owned(), one["equals"].as_str().unwrap().to_owned())
        })
        .collect();
    for (claim, value) in [
        ("x-ms-attestation-type", "sevsnpvm"),
        ("x-ms-compliance-status", "azure-compliant-uvm"),
        ("x-ms-sevsnpvm-hostdata", "<YOUR_CONTAINER_POLICY_HASH>"),
        ("x-ms-sevsnpvm-is-debuggable", "false"),
        ("x-ms-sevsnpvm-vmpl", "0"),
    ] {
        assert_eq!(claims.get(claim).map(String::as_str), Some(value), "{claim}");
    }
}

/// The tables in `docs/` are what the binaries and the checks say. `UPDATE=1` rewrites them.
#[test]
fn generated_documents_are_fresh() {
    let mut variables = String::from(
        "# Variables\n\nGenerated from the binaries' tables; `UPDATE=1 cargo test -p stack --test deploy` rewrites it. A variable \
         that begins with one of our prefixes and stands in no table of its role is an error. What the classes mean: \
         [SECURITY](../SECURITY.md).\n",
    );
    for role in RoleName::ALL {
        let vars: Vec<Var> = declared(role.name()).into_values().collect();
        variables.push_str(&format!("\n## {role}\n\n{}", service::env::markdown(&vars)));
    }
    variables.push_str(&format!(
        "\n## skr-sidecar, started as /skr.sh or /bin/skr\n\nThese on top of its own: \
         [how to use it](how-to/skr-sidecar.md).\n\n{}",
        service::env::markdown(skr_sidecar::reference::VARS)
    ));
    let mut checks = String::from(
        "# Checks\n\nGenerated from the tables in `attestation/src/checks`; `UPDATE=1 cargo test -p stack --test deploy` rewrites \
         it.\n\n| id | what must hold | source | when it does not |\n|---|---|---|---|\n",
    );
    for check in attestation::checks::all() {
        checks.push_str(&format!(
            "| {} | {} | {} | {} |\n",
            check.id, check.title, check.spec, check.remedy
        ));
    }
    for (name, text) in [("docs/variables.md", variables), ("docs/checks.md", checks)] {
        let path = root().join(name);
        #[expect(clippy::disallowed_methods, reason = "UPDATE is a switch of this test")]
        let update = std::env::var_os("UPDATE").is_some();
        if update {
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == text,
            "{name} is stale: run UPDATE=1 cargo test -p stack --test deploy"
        );
    }
}

/// The table of the policy file names every field that a policy has.
#[test]
fn every_field_of_a_policy_is_documented() {
    let policy = attestation::Policy::for_host_data(attestation::Expect::Value(vec![]));
    let fields = serde_json::to_value(policy).unwrap();
    let page = std::fs::read_to_string(root().join("docs/how-to/verify.md")).unwrap();
    for name in fields.as_object().unwrap().keys() {
        assert!(page.contains(&format!("`{name}`")), "{name} is not in docs/how-to/verify.md");
    }
}

/// Words of a page that are written as variables are.
fn variables_of(page: &str) -> BTreeSet<&str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = page.split(|c| !word(c));
    let ours = |word: &&str| {
        let upper = word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_');
        upper && word.contains('_') && !word.starts_with('_') && !word.ends_with('_')
    };
    words.filter(ours).collect()
}

/// Of the page for people who move over: its variables exist, and its snippets differ in the image alone.
#[test]
fn the_page_for_moving_over_names_what_there_is() {
    let page = std::fs::read_to_string(root().join("docs/how-to/skr-sidecar.md")).unwrap();
    // What is named because it is not a variable of ours.
    let others = ["HOST_DATA", "HTTP_PROXY", "SSL_CERT_DIR", "GIN_MODE", "YOUR_REGISTRY"];
    let own = declared("skr-sidecar");
    let drop_in: BTreeSet<&str> =
        skr_sidecar::reference::DropIn::VARS.iter().chain(&COMMON).map(|var| var.name).collect();
    let named = variables_of(&page);
    for name in &named {
        assert!(drop_in.contains(name) || others.contains(name), "there is no {name}");
    }
    for name in others {
        assert!(named.contains(name) && !own.contains_key(name), "{name} needs no exception");
    }
    for var in
        skr_sidecar::reference::VARS.iter().filter(|var| var.name.contains(char::is_lowercase))
    {
        assert!(page.contains(&format!("`{}", var.name)), "{} is not on the page", var.name);
    }

    let snippets: Vec<Value> = page
        .split("```json\n")
        .skip(1)
        .map(|rest| serde_json::from_str(rest.split("```").next().unwrap()).unwrap())
        .collect();
    let [mut theirs, mut ours] = <[Value; 2]>::try_from(snippets).unwrap();
    assert_ne!(theirs["properties"]["image"].take(), ours["properties"]["image"].take());
    assert_eq!(theirs, ours, "nothing but the image changes");
    let program = ours["properties"]["command"][0].as_str().unwrap();
    assert!(skr_sidecar::reference::Name::of(program).is_some());
    for variable in ours["properties"]["environmentVariables"].as_array().unwrap() {
        assert!(drop_in.contains(variable["name"].as_str().unwrap()), "{variable}");
    }
}
