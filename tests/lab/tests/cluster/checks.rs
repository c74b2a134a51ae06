//! Services that are active and not well: checks find it, and the group moves.

use crate::with_lab;
use anyhow::{Result, ensure};
use ha_node_lab::cluster::{GROUP, PATIENCE, SERVICE};
use ha_node_lab::unit::Entry;
use ha_node_lab::{Cluster, Machine, Options, clock, install};
use std::time::Duration;

/// The web server's configuration in the machines, and what a test makes of it.
const SITE: &str = "/etc/nginx/sites-available/default";
const WELL: &str = "server { listen 80; location / { return 200 \"all well\"; } }\n";
const ILL: &str = "server { listen 80; location / { return 500; } }\n";
const ELSEWHERE: &str = "server { listen 8080; location / { return 200; } }\n";

/// The certificate of the web server, the one that its check trusts, and its site over TLS.
const CERTIFICATE: &str = "/etc/nginx/site.pem";
const AUTHORITY: &str = "/etc/ssl/lab.pem";
const WELL_BY_TLS: &str = "server { listen 443 ssl; location / { return 200 \"all well\"; } \
     ssl_certificate /etc/nginx/site.pem; ssl_certificate_key /etc/nginx/site.key; }\n";
const ILL_BY_TLS: &str = "server { listen 443 ssl; location / { return 500; } \
     ssl_certificate /etc/nginx/site.pem; ssl_certificate_key /etc/nginx/site.key; }\n";

/// A cluster whose service has this check, its unit well on all nodes.
fn with_check(check: &str) -> Result<Cluster> {
    prepared(Options {
        service_keys: format!(", on_failure = \"failover\", check = {check}"),
        ..Options::two()
    })
}

fn prepared(options: Options) -> Result<Cluster> {
    let cluster = Cluster::prepare(options)?;
    for node in &cluster.nodes {
        node.write(SITE, WELL, 0o644)?;
    }
    cluster.start_all()?;
    cluster.wait_formed()?;
    Ok(cluster)
}

/// A cluster whose web server has a certificate of its own, and is asked over TLS with these keys.
fn by_tls(keys: &str) -> Result<Cluster> {
    let times = "interval = \"1s\", failures = 2";
    let check = format!("{{ http = \"https://127.0.0.1/\", {times}, {keys} }}");
    let cluster = Cluster::prepare(Options {
        service_keys: format!(", on_failure = \"failover\", check = {check}"),
        ..Options::two()
    })?;
    for node in &cluster.nodes {
        certify(node, "IP:127.0.0.1")?;
        node.exec(&["cp", CERTIFICATE, AUTHORITY])?;
        node.write(SITE, WELL_BY_TLS, 0o644)?;
    }
    cluster.start_all()?;
    cluster.wait_formed()?;
    Ok(cluster)
}

/// Makes a certificate for the web server, signed by itself, for this name.
fn certify(node: &Machine, name: &str) -> Result<()> {
    node.shell(&format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=site \
         -addext subjectAltName={name} -keyout /etc/nginx/site.key -out {CERTIFICATE}"
    ))
    .map(drop)
}

/// Waits until the web server has been asked so many times more.
fn wait_asked(node: &Machine, times: usize) -> Result<()> {
    let asked = || -> Result<usize> {
        let log = node.read("/var/log/nginx/access.log")?;
        Ok(log.lines().filter(|line| line.contains("ha-node/")).count())
    };
    let before = asked()?;
    clock::wait_for("the check to ask", PATIENCE, || {
        Ok((asked()? >= before + times).then_some(()))
    })
}

/// Breaks what the check needs to ask, and the service, too: that must be told and move nothing.
fn stays_unasked(keys: &str, harm: &str, words: &str, warning: &str) -> Result<()> {
    let cluster = by_tls(keys)?;
    let owner = cluster.owner()?;
    wait_asked(&owner, 1)?;
    let seen = cluster.watch(|| {
        owner.shell(harm)?;
        wait_told(&owner, words)?;
        serve(&owner, ILL_BY_TLS)?;
        std::thread::sleep(Duration::from_secs(8));
        Ok(())
    })?;
    ensure!(
        seen.owners.absences().is_empty(),
        "it moved: {:?}",
        seen.owners
    );
    let notes = told(&owner, |entry| entry.message.contains("cannot be asked"))?;
    ensure!(notes.len() == 1, "told {} times", notes.len());
    let checked = owner.attempt(&["hactl", "check"])?;
    ensure!(checked.success(), "{}", checked.stderr);
    ensure_contains(&checked.stderr, warning)
}

/// Gives the web server another configuration while it runs.
fn serve(node: &Machine, site: &str) -> Result<()> {
    node.write(SITE, site, 0o644)?;
    node.systemctl(&["reload", SERVICE]).map(drop)
}

/// Does something to the owner that its unit survives, waits for the move, and gives the reason of the failure.
fn moves_away(cluster: &Cluster, harm: impl FnOnce(&Machine) -> Result<()>) -> Result<String> {
    let owner = cluster.owner()?;
    let other = cluster.other(&owner)?;
    let seen = cluster.watch(|| {
        harm(&owner)?;
        ensure!(owner.unit_state(SERVICE)? == "active", "the unit is active");
        cluster.wait_owner(&other, &other)
    })?;
    seen.ensure_single_owner()?;
    let failed = told(&owner, |entry| entry.field("HA_EVENT") == "group-failed")?;
    ensure!(
        failed.len() == 1,
        "one failure, not {:?}",
        failed.iter().map(|e| &e.message).collect::<Vec<_>>()
    );
    Ok(failed[0].message.clone())
}

/// What the daemon said on a node.
fn told(node: &Machine, which: impl Fn(&Entry) -> bool) -> Result<Vec<Entry>> {
    let mut all = node.journal("ha-node", None)?;
    all.retain(which);
    Ok(all)
}

fn wait_told(node: &Machine, words: &str) -> Result<()> {
    clock::wait_for(words, PATIENCE, || {
        let found = told(node, |entry| entry.message.contains(words))?;
        Ok((!found.is_empty()).then_some(()))
    })
}

fn ensure_contains(text: &str, words: &str) -> Result<()> {
    ensure!(text.contains(words), "{words:?} is not in {text:?}");
    Ok(())
}

#[test]
fn a_server_that_answers_with_errors_is_left_though_its_unit_is_active() {
    with_lab(|| {
        let check = "{ http = \"http://127.0.0.1/\", interval = \"200ms\", failures = 3 }";
        let cluster = with_check(check)?;
        let reason = moves_away(&cluster, |owner| serve(owner, ILL))?;
        ensure_contains(&reason, "http://127.0.0.1/: 3 times in a row")?;
        ensure_contains(&reason, "status 500, expected 200 to 399")
    });
}

#[test]
fn a_server_that_hangs_is_left() {
    with_lab(|| {
        let check = "{ http = \"http://127.0.0.1/\", text = \"all well\", interval = \"300ms\" }";
        let cluster = with_check(check)?;
        let reason = moves_away(&cluster, |owner| {
            owner
                .systemctl(&["kill", "--signal=SIGSTOP", SERVICE])
                .map(drop)
        })?;
        ensure_contains(&reason, "no answer within 300ms")
    });
}

#[test]
fn a_page_over_tls_is_good_while_its_certificate_is_known_and_an_error_moves_the_group() {
    with_lab(|| {
        let cluster = by_tls(&format!("ca = \"{AUTHORITY}\", text = \"all well\""))?;
        let owner = cluster.owner()?;
        wait_asked(&owner, 3)?;
        let reason = moves_away(&cluster, |owner| serve(owner, ILL_BY_TLS))?;
        ensure_contains(&reason, "https://127.0.0.1/: 2 times in a row")?;
        ensure_contains(&reason, "status 500, expected 200 to 399")?;
        let of_systemd = owner.journal("systemd", None)?;
        let mut noise = of_systemd.iter().map(|entry| &entry.message);
        ensure!(
            !noise.any(|words| words.contains("health check of") || words.contains("-check-1")),
            "systemd told of checks that ran: {of_systemd:?}"
        );
        Ok(())
    });
}

#[test]
fn a_certificate_that_nobody_knows_fails_the_service() {
    with_lab(|| {
        let cluster = by_tls(&format!("ca = \"{AUTHORITY}\""))?;
        let reason = moves_away(&cluster, |owner| {
            certify(owner, "IP:127.0.0.1")?;
            serve(owner, WELL_BY_TLS)
        })?;
        ensure_contains(
            &reason,
            "the certificate is not trusted (self-signed certificate)",
        )
    });
}

#[test]
fn a_certificate_for_another_name_fails_the_service() {
    with_lab(|| {
        let cluster = by_tls(&format!("ca = \"{AUTHORITY}\""))?;
        let reason = moves_away(&cluster, |owner| {
            certify(owner, "DNS:www.example.org")?;
            owner.exec(&["cp", CERTIFICATE, AUTHORITY])?;
            serve(owner, WELL_BY_TLS)
        })?;
        ensure_contains(
            &reason,
            "the certificate is for another name than that in 127.0.0.1",
        )
    });
}

#[test]
fn any_certificate_will_do_where_none_is_verified() {
    with_lab(|| {
        let cluster = by_tls("verify = false")?;
        wait_asked(&cluster.owner()?, 3)?;
        let reason = moves_away(&cluster, |owner| serve(owner, ELSEWHERE))?;
        ensure_contains(&reason, "no connection: refused")
    });
}

#[test]
fn where_curl_is_missing_nothing_fails_and_it_is_told() {
    with_lab(|| {
        stays_unasked(
            "verify = false",
            "rm /usr/bin/curl",
            "install curl",
            "say nothing: install curl",
        )
    });
}

#[test]
fn a_certificate_that_the_checks_user_may_not_read_fails_nothing_and_is_told() {
    with_lab(|| {
        let keys = format!("ca = \"{AUTHORITY}\"");
        stays_unasked(
            &keys,
            &format!("chmod 600 {AUTHORITY}"),
            "may nobody read it",
            "chmod o+r",
        )
    });
}

#[test]
fn a_server_that_hangs_is_restarted_where_it_is_unless_told_otherwise() {
    with_lab(|| {
        let cluster = prepared(Options {
            service_keys: ", check = { http = \"http://127.0.0.1/\", interval = \"300ms\" }"
                .to_owned(),
            ..Options::two()
        })?;
        let owner = cluster.owner()?;
        let before = owner.main_pid(SERVICE)?;
        owner.systemctl(&["kill", "--signal=SIGSTOP", SERVICE])?;
        clock::wait_for("another web server", PATIENCE, || {
            let pid = owner.main_pid(SERVICE)?;
            Ok((pid.is_some() && pid != before).then_some(()))
        })
        .map_err(|error| cluster.with_journals(error))?;
        cluster.wait_owner(&owner, &owner)?;
        let told = told(&owner, |entry| {
            entry.field("HA_EVENT") == "resource-restarting"
        })?;
        ensure!(told.len() == 1, "{told:?}");
        Ok(())
    });
}

#[test]
fn a_port_that_closes_fails_the_group_that_is_checked_as_a_whole() {
    with_lab(|| {
        let cluster = prepared(Options {
            service_keys: ", on_failure = \"failover\"".to_owned(),
            group_keys: "check = [{ tcp = \"127.0.0.1:80\", interval = \"200ms\" }]\n".to_owned(),
            ..Options::two()
        })?;
        let reason = moves_away(&cluster, |owner| serve(owner, ELSEWHERE))?;
        ensure_contains(&reason, "the group's check tcp 127.0.0.1:80")?;
        ensure_contains(&reason, "connection refused")
    });
}

#[test]
fn bad_answers_below_the_count_move_nothing_and_are_told_once() {
    with_lab(|| {
        let check = "{ http = \"http://127.0.0.1/\", interval = \"500ms\", failures = 20 }";
        let cluster = with_check(check)?;
        let owner = cluster.owner()?;
        let seen = cluster.watch(|| {
            serve(&owner, ILL)?;
            wait_told(&owner, "status 500")?;
            serve(&owner, WELL)?;
            wait_told(&owner, "good again")
        })?;
        ensure!(
            seen.owners.absences().is_empty(),
            "nothing moved: {:?}",
            seen.owners
        );
        ensure!(cluster.owner()?.name() == owner.name(), "it stayed");
        let notes = told(&owner, |entry| entry.message.contains("status 500"))?;
        ensure!(notes.len() == 1, "{} lines for one bad spell", notes.len());
        ensure!(notes[0].field("PRIORITY") == "4", "it is a warning");
        Ok(())
    });
}

#[test]
fn a_program_checks_as_its_user_and_its_output_is_in_the_journal() {
    with_lab(|| {
        let script = "echo asked by $(id -un); test ! -e /var/ill";
        let check = format!(
            "{{ exec = [\"/bin/sh\", \"-c\", \"{script}\"], user = \"nobody\", interval = \"1s\", failures = 2 }}"
        );
        let cluster = with_check(&check)?;
        let owner = cluster.owner()?;
        let identifier = format!("unit:{SERVICE}");
        clock::wait_for("the check to run", PATIENCE, || {
            let said = owner.journal(&identifier, None)?;
            let asked = said.iter().filter(|e| e.message == "asked by nobody");
            Ok((asked.count() >= 2).then_some(()))
        })?;
        let reason = moves_away(&cluster, |owner| owner.write("/var/ill", "", 0o644))?;
        ensure_contains(&reason, "2 times in a row, last: exit code 1")?;
        let of_systemd = owner.journal("systemd", None)?;
        let noise = of_systemd
            .iter()
            .filter(|e| e.message.contains("health check of"))
            .count();
        ensure!(noise <= 4, "systemd told {noise} times of checks that ran");
        Ok(())
    });
}

#[test]
fn a_program_that_still_runs_when_the_group_moves_is_ended() {
    with_lab(|| {
        let check = "{ exec = [\"/bin/sleep\", \"500\"], interval = \"10m\", timeout = \"10m\" }";
        let cluster = with_check(check)?;
        let owner = cluster.owner()?;
        let other = cluster.other(&owner)?;
        let unit = format!("ha-{GROUP}-unit:{SERVICE}-check-1.service");
        clock::wait_for("the check to run", PATIENCE, || {
            Ok(owner.unit_runs(&unit).then_some(()))
        })?;
        owner.hactl(&["move", GROUP, other.name()])?;
        clock::wait_for("the check to end", PATIENCE, || {
            Ok((!owner.unit_runs(&unit)).then_some(()))
        })
        .map_err(|error| cluster.with_journals(error))
    });
}

#[test]
fn a_unit_that_another_one_needs_can_be_checked() {
    with_lab(|| {
        let check = "{ unit = \"helper.service\", interval = \"200ms\" }";
        let cluster = Cluster::prepare(Options {
            service_keys: format!(", on_failure = \"failover\", check = {check}"),
            ..Options::two()
        })?;
        for node in &cluster.nodes {
            let helper = "[Service]\nExecStart=/bin/sleep infinity\n";
            node.write("/etc/systemd/system/helper.service", helper, 0o644)?;
            node.systemctl(&["daemon-reload"])?;
            node.systemctl(&["start", "helper.service"])?;
        }
        cluster.start_all()?;
        cluster.wait_formed()?;
        let reason = moves_away(&cluster, |owner| {
            owner.systemctl(&["stop", "helper.service"]).map(drop)
        })?;
        ensure_contains(&reason, "unit helper.service: 3 times in a row")?;
        ensure_contains(&reason, "inactive (dead), expected active")?;
        let events = told(&cluster.owner()?, |e| e.field("PRIORITY") == "3")?;
        ensure!(events.is_empty(), "{} said {events:?}", install::UNIT);
        Ok(())
    });
}
