//! How files and environment become one configuration.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on must fail")]

use ha_node::config::model::{ResourceKind, Transport};
use ha_node::config::{self, Config, PROBLEMS_SHOWN_MAX, Warning};
use ha_node::core::Policy;
use proptest::prelude::*;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;
use tempfile::TempDir;

const TWO_NODES: &str = r#"
[auth]
keyfile = "/etc/ha-node/authkeys"
[[node]]
name = "alpha"
[[node]]
name = "beta"
[[link]]
ucast = { alpha = "10.0.0.1", beta = "10.0.0.2" }
"#;

struct Files(TempDir);

impl Files {
    fn new(main: &str) -> Self {
        let files = Self(tempfile::tempdir().unwrap());
        fs::write(files.main(), main).unwrap();
        files
    }

    fn main(&self) -> PathBuf {
        self.0.path().join("ha-node.toml")
    }

    fn fragment(self, name: &str, text: &str) -> Self {
        let directory = self.0.path().join("conf.d");
        fs::create_dir_all(&directory).unwrap();
        fs::write(directory.join(name), text).unwrap();
        self
    }

    fn load(&self, env: &[(&str, &str)]) -> Result<(Config, Vec<Warning>), String> {
        self.load_on(env, "alpha")
    }

    fn load_on(&self, env: &[(&str, &str)], host: &str) -> Result<(Config, Vec<Warning>), String> {
        let env = env
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        let directory = format!("{}/", self.0.path().display());
        Config::load(&self.main(), env, host)
            .map_err(|errors| errors.to_string().replace(&directory, ""))
    }
}

fn config(text: &str) -> Config {
    Files::new(text).load(&[]).unwrap().0
}

#[test]
fn without_any_file_the_host_is_a_cluster_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ha-node.toml");
    let (config, warnings) = Config::load(&path, std::iter::empty(), "solo").unwrap();
    assert!(config.standalone && warnings.is_empty());
    assert_eq!(config.cluster().as_str(), "solo");
    assert_eq!(config.local().as_str(), "solo");
    assert_eq!(config.settings.nodes.len(), 1);
    assert!(config.links.is_empty() && config.groups.is_empty() && config.keyfile.is_none());
    let error = Config::load_named(&path, std::iter::empty(), "solo").unwrap_err();
    assert!(error.to_string().contains("cannot be read"), "{error}");
}

#[test]
fn a_file_of_nothing_is_a_cluster_of_one_that_was_configured() {
    let config = config("");
    assert!(!config.standalone);
    assert_eq!(config.policy(), Policy::Ignore);
}

#[test]
fn a_fragment_adds_entries_and_replaces_single_values() {
    let files = Files::new(&format!("[timing]\nkeepalive = \"100ms\"\ndeadtime = \"3s\"\n{TWO_NODES}"))
        .fragment("20.toml", "[timing]\ndeadtime = \"5s\"")
        .fragment("10.toml", "[timing]\ndeadtime = \"4s\"\n[[group]]\nname = \"a\"\nresources = [{ unit = \"a.service\" }]")
        .fragment("web.toml", "[[group]]\nname = \"web\"\nresources = [{ unit = \"b.service\" }]")
        .fragment("ignored.conf", "nonsense")
        .fragment(".hidden.toml", "nonsense");
    let (config, _) = files.load(&[]).unwrap();
    assert_eq!(config.settings.keepalive, Duration::from_millis(100));
    assert_eq!(config.settings.deadtime, Duration::from_secs(5));
    let names: Vec<&str> = config
        .groups
        .iter()
        .map(|group| group.name.as_str())
        .collect();
    assert_eq!(names, ["a", "web"]);
}

#[test]
fn fragments_alone_are_a_configuration_too() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("conf.d")).unwrap();
    fs::write(
        directory.path().join("conf.d/a.toml"),
        "[cluster]\nname = \"c\"",
    )
    .unwrap();
    let path = directory.path().join("ha-node.toml");
    let (config, _) = Config::load(&path, std::iter::empty(), "alpha").unwrap();
    assert!(!config.standalone);
    assert_eq!(config.cluster().as_str(), "c");
}

#[test]
fn the_same_group_in_two_files_is_an_error_that_names_both() {
    let group = "[[group]]\nname = \"web\"\nresources = [{ unit = \"a.service\" }]";
    let files = Files::new(&format!("{group}\n")).fragment("web.toml", &format!("\n{group}"));
    assert_eq!(
        files.load(&[]).unwrap_err(),
        "conf.d/web.toml:3:8: group \"web\" is here a second time; the first one is at ha-node.toml:2:8"
    );
}

#[test]
fn errors_of_several_files_are_told_together_in_the_order_of_the_layers() {
    let files = Files::new("[timing]\ndeadtme = 1\nkeepalive = 5\n")
        .fragment("a.toml", "[cluster]\nname = 3\n");
    let env = [("HA_NODE_TIMING__INITDEAD", "never")];
    let told = files.load(&env).unwrap_err();
    let places: Vec<&str> = told
        .lines()
        .map(|line| line.split(": ").next().unwrap())
        .collect();
    assert_eq!(
        places,
        [
            "ha-node.toml:2:1",
            "ha-node.toml:3:13",
            "conf.d/a.toml:2:8",
            "environment variable HA_NODE_TIMING__INITDEAD",
        ]
    );
}

#[test]
fn at_most_twenty_errors_are_told_and_the_rest_is_counted() {
    let text: String = (0..30).map(|number| format!("key{number} = 1\n")).collect();
    let told = Files::new(&text).load(&[]).unwrap_err();
    assert_eq!(told.lines().count(), PROBLEMS_SHOWN_MAX + 1);
    assert!(told.ends_with("and 10 more errors"));
}

#[test]
fn the_environment_has_the_last_word() {
    let files = Files::new("[timing]\ndeadtime = \"3s\"");
    let env = [
        ("HA_NODE_TIMING__DEADTIME", "5s"),
        ("HA_NODE_CLUSTER__NAME", "007"),
        ("HA_NODE_CLUSTER__AUTO_FAILBACK", "false"),
        ("HA_NODE_LOG", "debug"),
        ("PATH", "/bin"),
    ];
    let (config, warnings) = files.load(&env).unwrap();
    assert_eq!(config.settings.deadtime, Duration::from_secs(5));
    assert_eq!(config.cluster().as_str(), "007");
    assert!(
        warnings.is_empty(),
        "variables of others are not ours: {warnings:?}"
    );
}

#[test]
fn a_variable_with_a_mistake_is_told_by_its_name() {
    let told = |name: &str, value: &str| Files::new("").load(&[(name, value)]).unwrap_err();
    assert_eq!(
        told("HA_NODE_TIMING__DEADTME", "5s"),
        "environment variable HA_NODE_TIMING__DEADTME: unknown key \"deadtme\" in [timing]; expected one of \
         keepalive, warntime, deadtime, initdead; did you mean \"deadtime\"?"
    );
    assert!(told("HA_NODE_TIMING__DEADTIME", "5").contains("has no unit"));
    assert!(told("HA_NODE_GROUP__NAME", "web").contains("lists cannot be set"));
    assert!(told("HA_NODE_CLUSTER__AUTO_FAILBACK", "yes").contains("expected true or false"));
    let (_, warnings) = Files::new("")
        .load(&[("HA_NODE_TIMING_DEADTIME", "5s")])
        .unwrap();
    assert!(
        warnings[0]
            .text
            .contains("did you mean HA_NODE_TIMING__DEADTIME?")
    );
}

#[test]
fn the_policy_auto_is_a_majority_from_three_votes_on() {
    let nodes = |count: usize| {
        let names = &["alpha", "beta", "gamma", "delta"][..count];
        let nodes: String = names
            .iter()
            .map(|name| format!("[[node]]\nname = \"{name}\"\n"))
            .collect();
        config(&format!(
            "[auth]\nkeyfile = \"/k\"\n[[link]]\nbcast = \"eth1\"\n{nodes}"
        ))
    };
    assert_eq!(nodes(1).policy(), Policy::Ignore);
    assert_eq!(nodes(2).policy(), Policy::Ignore);
    assert_eq!(nodes(3).policy(), Policy::Majority);
    let witness = config(&format!(
        "{}[[node]]\nname = \"w\"\nrole = \"witness\"",
        TWO_NODES.replace(
            "ucast = { alpha = \"10.0.0.1\", beta = \"10.0.0.2\" }",
            "bcast = \"eth1\""
        )
    ));
    assert_eq!(witness.policy(), Policy::Majority, "a witness votes");
    let (config, warnings) = Files::new(&format!("{TWO_NODES}[quorum]\npolicy = \"majority\""))
        .load(&[])
        .unwrap();
    assert_eq!(config.policy(), Policy::Majority);
    assert!(warnings[0].text.contains("add a third node"));
}

#[test]
fn host_and_node_names_differ_in_more_than_letter_case() {
    let files = Files::new(&TWO_NODES.replace("name = \"alpha\"", "name = \"Alpha\""));
    let (config, _) = files.load_on(&[], "ALPHA").unwrap();
    assert_eq!(config.local().as_str(), "alpha");
}

#[test]
fn a_host_that_is_no_node_is_told_both_names_and_where_names_come_from() {
    let files = Files::new(TWO_NODES);
    let told = files.load_on(&[], "gamma").unwrap_err();
    for part in [
        "\"gamma\"",
        "alpha, beta",
        "uname -n",
        "hostnamectl set-hostname",
    ] {
        assert!(told.contains(part), "{part} in {told}");
    }
    let told = files.load_on(&[], "alpha.example.org").unwrap_err();
    assert!(told.contains("hostnamectl set-hostname alpha`"), "{told}");
    assert!(told.contains("name = \"alpha.example.org\""), "{told}");
    let told = files.load_on(&[], "").unwrap_err();
    assert!(told.contains("cannot be the name of a node"), "{told}");
}

#[test]
fn short_times_bring_a_fitting_default_of_warntime() {
    let config = config("[timing]\nkeepalive = \"20ms\"\ndeadtime = \"100ms\"");
    assert_eq!(config.settings.warntime, Duration::from_millis(60));
    let slow = self::config("[timing]\ndeadtime = \"30s\"");
    assert_eq!(slow.settings.warntime, Duration::from_secs(1));
    assert_eq!(slow.settings.initdead, Duration::from_secs(30));
}

#[test]
fn a_unicast_link_knows_its_own_address_and_those_of_the_others() {
    let config = config(TWO_NODES);
    let Transport::Unicast { local, peers, .. } = &config.links[0].transport else {
        panic!("not unicast");
    };
    assert_eq!(local.to_string(), "10.0.0.1");
    assert_eq!(peers.len(), 1);
    assert_eq!(peers[0].0.as_str(), "beta");
}

#[test]
fn a_cable_from_machine_to_machine_is_known_as_such() {
    let of = |text: &str| config(&TWO_NODES.replace("[[link]]\n", text)).links[0].direct;
    assert!(of("[[link]]\ndirect = true\n"));
    assert!(!of("[[link]]\ndirect = false\n"));
    assert!(!of("[[link]]\n"));
}

#[test]
fn a_group_without_nodes_may_run_on_every_member_in_the_order_of_the_file() {
    let text = "[[group]]\nname = \"g\"\nauto_failback = false\nresources = [{ vip = \"2001:db8::1/64\", interface = \"eth0\" }]\n";
    let nodes = TWO_NODES
        .replace("name = \"alpha\"", "name = \"zeta\"")
        .replace("alpha =", "zeta =");
    let files = Files::new(&format!("{nodes}{text}"));
    let (config, _) = files.load_on(&[], "zeta").unwrap();
    let group = config.settings.groups.values().next().unwrap();
    let names: Vec<&str> = group.nodes.iter().map(|name| name.as_str()).collect();
    assert_eq!(names, ["zeta", "beta"]);
    assert!(!group.auto_failback);
    let ResourceKind::Address(set) = &config.groups[0].resources[0].kind else {
        panic!("an address");
    };
    assert_eq!(set.addresses[0].prefix, 64);
}

#[test]
fn the_digest_says_whether_two_nodes_are_configured_alike() {
    let group =
        "[[group]]\nname = \"g\"\nresources = [{ vip = \"10.1.0.1/24\", interface = \"eth0\" }]\n";
    let base = format!("{TWO_NODES}{group}");
    let hash = |text: &str| config(text).settings.config_hash;
    let same = [
        format!("{group}{TWO_NODES}"),
        base.replace("[[link]]\n", "[[link]]\ninterface = \"eth7\"\n"),
        base.replace("/etc/ha-node/authkeys", "/elsewhere"),
        base.replace("eth0", "enp1s0"),
        base.replace("\"eth0\"", "\"eth0\", label = \"eth0:g\""),
        base.replace(
            "\"eth0\"",
            "\"eth0\", source = false, on_conflict = \"take\"",
        ),
        base.replace("\"10.1.0.1/24\"", "[\"10.1.0.1-10.1.0.1/24\"]")
            .replace("interface", "id = \"vip:10.1.0.1\", interface"),
        format!("{base}[timing]\ndeadtime = \"2000ms\""),
        base.replace("name = \"g\"", "name = \"g\"\nstop_margin = \"250ms\""),
    ];
    for text in same {
        assert_eq!(hash(&text), hash(&base), "{text}");
    }
    let different = [
        format!("{base}[timing]\ndeadtime = \"3s\""),
        format!("{base}[cluster]\nname = \"other\""),
        format!("{base}[quorum]\npolicy = \"majority\""),
        base.replace("10.1.0.1", "10.1.0.2"),
        base.replace("\"eth0\"", "\"eth0\", source = true"),
        base.replace("\"eth0\"", "\"eth0\", on_conflict = \"refuse\""),
        base.replace("\"eth0\"", "\"eth0\", route = \"default via 10.1.0.254\""),
        base.replace("10.1.0.1/24", "10.1.0.1-10.1.0.2/24"),
        base.replace("name = \"g\"", "name = \"h\""),
        base.replace(
            "name = \"g\"",
            "name = \"g\"\nnodes = [\"beta\", \"alpha\"]",
        ),
        base.replace("name = \"g\"", "name = \"g\"\nauto_failback = false"),
        base.replace("name = \"beta\"", "name = \"beta\"\nrole = \"witness\""),
        base.replace("name = \"g\"", "name = \"g\"\nstop_margin = \"20s\""),
    ];
    for text in different {
        assert_ne!(hash(&text), hash(&base), "{text}");
    }
    let other_node = Files::new(&base).load_on(&[], "beta").unwrap().0;
    assert_eq!(other_node.settings.config_hash, hash(&base));
}

#[test]
fn a_group_has_one_keepalive_for_an_emergency_stop_unless_it_asks_for_more() {
    let group = |name: &str, more: &str| {
        format!(
            "[[group]]\nname = \"{name}\"\n{more}resources = [{{ unit = \"{name}.service\" }}]\n"
        )
    };
    let plain = group("plain", "");
    let slow = group("slow", "stop_margin = \"20s\"\n");
    let files = Files::new(&format!(
        "{TWO_NODES}[timing]\nkeepalive = \"300ms\"\n{plain}{slow}"
    ));
    let config = files.load(&[]).unwrap().0;
    let wanted = [Duration::from_millis(300), Duration::from_secs(20)];
    for (group, wanted) in config.groups.iter().zip(wanted) {
        assert_eq!(group.stop_margin, wanted);
        assert_eq!(config.settings.stop_margin(&group.name), wanted);
    }
}

#[test]
fn files_that_are_no_text_are_told() {
    let files = Files::new("");
    fs::write(files.main(), b"# fine\n\xff\n").unwrap();
    assert!(files.load(&[]).unwrap_err().contains("line 2 is not UTF-8"));
    fs::remove_file(files.main()).unwrap();
    fs::create_dir(files.main()).unwrap();
    assert!(files.load(&[]).unwrap_err().contains("not a regular file"));
    fs::remove_dir(files.main()).unwrap();
    fs::write(files.main(), "#".repeat(2_000_000)).unwrap();
    assert!(files.load(&[]).unwrap_err().contains("larger than 1 MiB"));
}

/// Pieces of which many combinations come near to a real file.
fn piece() -> impl Strategy<Value = String> {
    let known = [
        "[cluster]",
        "[timing]",
        "[[node]]",
        "[[link]]",
        "[[group]]",
        "[quorum]",
        "[auth]",
        "[node]",
        "name = ",
        "ucast = ",
        "mcast = ",
        "resources = ",
        "nodes = ",
        "deadtime = ",
        "port = ",
        "role = ",
        "{ alpha = \"10.0.0.1\" }",
        "[{ vip = \"10.0.0.9/24\", interface = \"eth0\" }]",
        "\"alpha\"",
        "\"2s\"",
        "[\"alpha\"]",
        "-1",
        "0x2b6",
        "1e400",
        "1979-05-27",
        "\n",
        "=",
        "[",
        "]",
        "{",
        "}",
        "\"",
        "'''",
        ".",
        ",",
    ];
    prop_oneof![
        8 => prop::sample::select(known.to_vec()).prop_map(str::to_owned),
        1 => "\\PC{0,12}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics_the_loader(pieces in prop::collection::vec(piece(), 0..40), glue in "[ \n]") {
        let text = pieces.join(&glue);
        if let Err(errors) = config::parse_str(&text) {
            prop_assert!(!errors.problems.is_empty());
            prop_assert!(errors.problems.len() <= PROBLEMS_SHOWN_MAX);
        }
    }

    #[test]
    fn no_characters_panic_the_loader(text in "(?s).{0,200}") {
        let _ = config::parse_str(&text);
    }
}
