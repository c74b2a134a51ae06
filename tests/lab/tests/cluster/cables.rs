//! Cables that are cut, mended, and bad.

use crate::with_lab;
use anyhow::{Result, ensure};
use ha_node_lab::cluster::{SERVICE, Seen};
use ha_node_lab::scenario::cables::{self, CutOff};
use ha_node_lab::scenario::deaths;
use ha_node_lab::{Cluster, Options, Span, clock, meter};
use std::time::Duration;

/// What a busy host may add to every bound.
const SLACK: Duration = Duration::from_millis(500);

/// The clients reach the machine that the cluster agreed on, and no other.
fn check_clients(seen: &Seen<CutOff>) -> Result<()> {
    let end = Span::new(
        seen.span.to.saturating_sub(Duration::from_millis(700)),
        seen.span.to,
    );
    let last = seen.address.within(end);
    ensure!(
        last.lost() < last.samples.len() / 2,
        "the clients reach nobody after the mend"
    );
    let pages = seen
        .http
        .as_ref()
        .map(|http| http.answered_by.clone())
        .unwrap_or_default();
    let server = pages.last().map(|(_, name)| name.as_str());
    ensure!(
        server == Some(seen.value.owner.name()),
        "clients are served by {server:?}"
    );
    ensure!(
        seen.owners.last_owner() == Some(seen.value.owner.name()),
        "{:?}",
        seen.owners
    );
    Ok(())
}

#[test]
fn two_nodes_that_were_cut_apart_agree_on_one_owner_at_once() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        let seen = cables::cut_and_mend(&cluster, Duration::from_secs(6))?;
        let allowed = seen.value.cut.to + cluster.options.keepalive * 2 + SLACK;
        let both = [Some(&seen.owners), seen.service.as_ref()];
        for (double, names) in both.into_iter().flatten().flat_map(|seen| seen.doubles()) {
            ensure!(
                double.to <= allowed,
                "{names:?} both had it until {} ms after the mend",
                clock::ms(double.to.saturating_sub(seen.value.cut.to))
            );
        }
        check_clients(&seen)
    });
}

#[test]
fn of_three_nodes_the_one_that_is_cut_off_lets_go_before_another_takes_over() {
    with_lab(|| {
        let cluster = Cluster::form(Options::three())?;
        let seen = cables::cut_and_mend(&cluster, Duration::from_secs(8))?;
        seen.ensure_single_owner()?;
        let owners = seen
            .owners
            .owners
            .values()
            .filter(|spans| !spans.is_empty())
            .count();
        ensure!(owners == 2, "another node took over: {:?}", seen.owners);
        ensure!(
            !seen.value.node.unit_runs(SERVICE),
            "{SERVICE} is stopped where it was"
        );
        check_clients(&seen)
    });
}

#[test]
fn one_link_of_two_can_be_lost_without_any_effect() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        let seen = cables::one_of_two(&cluster, cluster.options.deadtime * 2)?;
        seen.ensure_single_owner()?;
        ensure!(
            seen.owners.absences().is_empty(),
            "the group stayed: {:?}",
            seen.owners
        );
        ensure!(
            seen.owners.last_owner() == Some(seen.value.name()),
            "where it was"
        );
        let noticed = seen
            .value
            .journal("ha-node", Some(seen.span))?
            .iter()
            .any(|entry| entry.field("HA_EVENT") == "link-dead");
        ensure!(noticed, "and yet the loss was told");
        let outage = seen.address.longest_outage();
        ensure!(
            outage < cluster.options.keepalive,
            "clients noticed nothing: {outage:?}"
        );
        Ok(())
    });
}

#[test]
fn a_fifth_of_all_packets_lost_for_a_minute_moves_nothing() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        let seen = cables::bad_cables(&cluster, 20, Duration::from_secs(60))?;
        seen.ensure_single_owner()?;
        ensure!(
            seen.owners.absences().is_empty(),
            "the group stayed: {:?}",
            seen.owners
        );
        ensure!(
            seen.owners.last_owner() == Some(seen.value.name()),
            "where it was"
        );
        let share = f64::from(u32::try_from(seen.address.lost())?)
            / f64::from(u32::try_from(seen.address.samples.len())?);
        ensure!(share > 0.05, "packets were lost: {share}");
        Ok(())
    });
}

#[test]
fn busy_cores_move_nothing() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        let seen = cables::busy_cores(&cluster, 2, Duration::from_secs(15))?;
        seen.ensure_single_owner()?;
        ensure!(
            seen.owners.absences().is_empty(),
            "the group stayed: {:?}",
            seen.owners
        );
        Ok(())
    });
}

#[test]
fn a_machine_that_stands_still_lets_go_at_its_first_turn() {
    with_lab(|| {
        let cluster = Cluster::form(Options::three())?;
        let owner = cluster.owner()?;
        let other = cluster.other(&owner)?;
        let seen = cluster.watch(|| {
            owner.pause()?;
            let others: Vec<_> = cluster
                .nodes
                .iter()
                .filter(|node| node.name() != owner.name())
                .collect();
            let taken = cluster.wait_agreed(&others);
            let woken = clock::now();
            owner.resume()?;
            taken?;
            cluster.wait_formed()?;
            Ok(woken)
        })?;
        ensure!(
            cluster.owner()?.name() != owner.name(),
            "{} has it",
            other.name()
        );
        let allowed = seen.value + SLACK;
        for (double, names) in seen.owners.doubles() {
            ensure!(
                double.to <= allowed,
                "{names:?} both had it {double:?} after {:?}",
                seen.value
            );
        }
        Ok(())
    });
}

#[test]
fn a_daemon_at_rest_uses_little() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        let owner = cluster.owner()?;
        let before = meter::usage(&owner, ha_node_lab::install::UNIT)?;
        clock::sleep(Duration::from_secs(5));
        let after = meter::usage(&owner, ha_node_lab::install::UNIT)?;
        // Far above the bar: this sees a busy loop or a leak, not a slow host.
        ensure!(
            after.percent_since(&before) < 20.0,
            "no busy loop: {before:?} {after:?}"
        );
        ensure!(
            after.resident_kib < 100 * 1024,
            "{} KiB resident",
            after.resident_kib
        );
        let taken = deaths::power_cut(&cluster)?;
        taken.ensure_single_owner()
    });
}
