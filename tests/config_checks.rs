//! Health checks as the daemon gets them: where they may stand, their defaults, and that all nodes must agree on them.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test that cannot go on must fail"
)]

use ha_node::config::Config;
use ha_node::config::health::{HealthCheck, HttpProbe, HttpsProbe, Page, Probe, Trust};
use std::fs;
use std::time::Duration;

/// A cluster of one with a group of this text.
fn load(group: &str) -> Config {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ha-node.toml");
    fs::write(&path, format!("[[group]]\nname = \"web\"\n{group}\n")).unwrap();
    let loaded = Config::load_named(&path, std::iter::empty(), "alpha");
    loaded
        .map(|(config, _)| config)
        .unwrap_or_else(|errors| panic!("{errors}"))
}

/// The one check of the one resource.
fn check(table: &str) -> HealthCheck {
    let config = load(&format!(
        "resources = [{{ unit = \"a.service\", check = {table} }}]"
    ));
    let [check] = config.groups[0].resources[0].checks.as_slice() else {
        panic!("one check");
    };
    check.clone()
}

#[test]
fn the_contracts_example_is_a_page_every_second() {
    let probe = HttpProbe {
        address: ([127, 0, 0, 1], 80).into(),
        page: Page {
            host: "127.0.0.1".to_owned(),
            path: "/".to_owned(),
            status: vec![],
            text: None,
        },
    };
    assert_eq!(
        check("{ http = \"http://127.0.0.1/\", interval = \"1s\", failures = 3 }"),
        HealthCheck {
            probe: Probe::Http(probe),
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            failures: 3,
            successes: 1,
            start_grace: Duration::from_secs(10),
        }
    );
}

#[test]
fn the_defaults_are_those_of_the_example() {
    let example = include_str!("../config.example.toml");
    let implied = check("{ tcp = \"127.0.0.1:1\" }");
    let keys =
        "interval = \"5s\", timeout = \"3s\", failures = 3, successes = 1, start_grace = \"10s\"";
    assert_eq!(
        check(&format!("{{ tcp = \"127.0.0.1:1\", {keys} }}")),
        implied
    );
    for key in keys.split(", ") {
        assert!(example.contains(&format!("#   {key} ")), "{key}");
    }
    assert_eq!(implied.probe.to_string(), "tcp 127.0.0.1:1");
}

#[test]
fn resources_and_groups_may_have_one_check_or_several() {
    let config = load(
        "resources = [{ vip = \"10.0.0.1/24\", interface = \"eth0\", check = [
            { http = \"http://[::1]:8080/x\", status = [200, 204], text = \"ok\" },
            { exec = [\"/usr/bin/true\", \"$HOME\"], user = \"nobody\" },
        ] }]
        check = { unit = \"helper.service\" }",
    );
    let group = &config.groups[0];
    let [http, exec] = group.resources[0].checks.as_slice() else {
        panic!("two checks");
    };
    let Probe::Http(HttpProbe { page, .. }) = &http.probe else {
        panic!("{http:?}");
    };
    assert_eq!(
        (page.status.as_slice(), page.text.as_deref()),
        ([200, 204].as_slice(), Some("ok"))
    );
    assert_eq!(page.expected(), "200 or 204");
    assert!(page.accepts(204) && !page.accepts(302));
    assert_eq!(
        exec.probe,
        Probe::Exec {
            command: vec!["/usr/bin/true".to_owned(), "$HOME".to_owned()],
            user: Some("nobody".to_owned()),
        }
    );
    assert_eq!(group.checks[0].probe.to_string(), "unit helper.service");
    let as_tables = load(
        "resources = [{ unit = \"a.service\" }]\n[[group.check]]\ntcp = \"localhost:1\"\n\
         [[group.check]]\ntcp = \"[::1]:2\"",
    );
    assert_eq!(as_tables.groups[0].checks.len(), 2);
}

#[test]
fn a_page_over_tls_is_trusted_by_the_system_by_a_file_or_by_all() {
    for (keys, expected) in [
        ("", Trust::System),
        (", verify = true", Trust::System),
        (", verify = false", Trust::Any),
        (", ca = \"/ca.pem\"", Trust::Ca("/ca.pem".to_owned())),
        (
            ", ca = \"/ca.pem\", verify = true",
            Trust::Ca("/ca.pem".to_owned()),
        ),
    ] {
        let url = "https://www.example.org:8443/x";
        let found = check(&format!(
            "{{ http = \"{url}\", status = 200, text = \"ok\"{keys} }}"
        ));
        assert_eq!(found.probe.to_string(), url);
        let Probe::Https(HttpsProbe { trust, page }) = found.probe else {
            panic!("{found:?}");
        };
        assert_eq!(trust, expected, "{keys}");
        assert_eq!((page.status, page.text.as_deref()), (vec![200], Some("ok")));
    }
}

#[test]
fn every_value_of_a_check_is_one_that_all_nodes_must_agree_on() {
    let of = |table: &str| {
        let text = format!("resources = [{{ unit = \"a.service\", check = {table} }}]");
        load(&text).settings.config_hash
    };
    let http = |keys: &str| of(&format!("{{ http = \"http://127.0.0.1/\"{keys} }}"));
    let base = http("");
    assert_eq!(http(", interval = \"5s\""), base);
    for keys in [
        ", status = 200",
        ", text = \"x\"",
        ", interval = \"6s\"",
        ", timeout = \"2s\"",
        ", failures = 4",
        ", successes = 2",
        ", start_grace = \"1s\"",
    ] {
        assert_ne!(http(keys), base, "{keys}");
    }
    let https = |keys: &str| of(&format!("{{ http = \"https://127.0.0.1/\"{keys} }}"));
    assert_ne!(https(""), base);
    assert_eq!(https(", verify = true"), https(""));
    for keys in [", text = \"x\"", ", verify = false", ", ca = \"/ca.pem\""] {
        assert_ne!(https(keys), https(""), "{keys}");
    }
    assert_ne!(https(", ca = \"/ca.pem\""), https(", ca = \"/cb.pem\""));
    let exec = |words: &str| of(&format!("{{ exec = {words} }}"));
    assert_ne!(exec("[\"/a\", \"b c\"]"), exec("[\"/a\", \"b\", \"c\"]"));
    assert_ne!(
        exec("[\"/a\", \"b c\", \"d\"]"),
        exec("[\"/a\", \"b\", \"c d\"]")
    );
    let in_resource =
        load("resources = [{ unit = \"a.service\", check = { tcp = \"127.0.0.1:1\" } }]");
    let in_group =
        load("resources = [{ unit = \"a.service\" }]\ncheck = { tcp = \"127.0.0.1:1\" }");
    assert_ne!(
        in_resource.settings.config_hash,
        in_group.settings.config_hash
    );
}
