//! Nodes and daemons that die, and come back.

use crate::with_lab;
use anyhow::{Context, ensure};
use ha_node_lab::cluster::GROUP;
use ha_node_lab::scenario::deaths;
use ha_node_lab::{Cluster, Machine, Options, clock, install};
use std::time::Duration;

#[test]
fn a_power_cut_is_survived_and_the_dead_node_comes_back() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        let seen = deaths::power_cut(&cluster)?;
        seen.ensure_single_owner()?;
        let taken = &seen.value;
        ensure!(taken.dead.name() != taken.by.name(), "another node has it");
        ensure!(
            taken.by.status()?.node_state(taken.dead.name()) == "dead",
            "it is known as dead"
        );

        let back = deaths::come_back(&cluster, &taken.dead)?;
        back.ensure_single_owner()?;
        ensure!(
            back.value.name() == taken.by.name(),
            "no failback without being asked"
        );
        ensure!(
            back.owners.absences().is_empty(),
            "its return disturbs nobody: {:?}",
            back.owners
        );
        ensure!(
            back.address.longest_outage() < cluster.options.deadtime,
            "nor the clients"
        );
        Ok(())
    });
}

#[test]
fn with_failback_the_group_returns_to_its_first_node() {
    with_lab(|| {
        let cluster = Cluster::form(Options {
            failback: true,
            ..Options::three()
        })?;
        let seen = deaths::power_cut(&cluster)?;
        seen.ensure_single_owner()?;
        let back = deaths::come_back(&cluster, &seen.value.dead)?;
        back.ensure_single_owner()?;
        cluster.wait_owner(&seen.value.dead, &seen.value.dead)
    });
}

#[test]
fn a_killed_daemon_leaves_the_address_on_one_machine() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        for _ in 0..3 {
            deaths::kill_daemon(&cluster)?.ensure_single_owner()?;
        }
        Ok(())
    });
}

/// Ends the daemon in a way, and demands that nobody but systemd noticed.
fn nobody_notices(how: impl Fn(&Machine, u32) -> anyhow::Result<()>) {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        for _ in 0..3 {
            let owner = cluster.owner()?;
            let before = deaths::invocation(&owner)?;
            let seen = deaths::end_daemon(&cluster, &how)?;
            seen.ensure_single_owner()?;
            let (owners, text) = (&seen.owners, format!("{:?}", seen.owners));
            ensure!(owners.absences().is_empty(), "the address stayed: {text}");
            ensure!(cluster.owner()?.name() == owner.name(), "and its owner");
            ensure!(
                deaths::invocation(&owner)? == before,
                "the service was not restarted"
            );
        }
        let journal = cluster.owner()?.journal_text(install::UNIT);
        ensure!(journal.contains("Group web: goes on here"), "{journal}");
        Ok(())
    });
}

#[test]
fn a_killed_daemon_that_is_back_in_time_goes_on_with_what_it_ran() {
    nobody_notices(|owner, pid| owner.kill(pid, "KILL"));
}

#[test]
fn a_restarted_daemon_goes_on_with_what_it_ran() {
    nobody_notices(|owner, _| owner.systemctl(&["restart", install::UNIT]).map(drop));
}

/// The timer of the first restart rings while the daemon ends for the second one: the release that it starts must not keep
/// the daemon from coming back. The end takes some 100 ms, and each pause lets the timer ring in another part of it.
#[test]
fn a_daemon_that_ends_while_an_earlier_timer_rings_goes_on_with_what_it_ran() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        let owner = cluster.owner()?;
        let before = deaths::invocation(&owner)?;
        for pause_millis in [1000, 1030, 1060, 1090] {
            let restart = || owner.systemctl(&["restart", install::UNIT]).map(drop);
            let seen = cluster.watch(|| {
                let begin = clock::now();
                restart()?;
                std::thread::sleep(
                    Duration::from_millis(pause_millis).saturating_sub(clock::now() - begin),
                );
                restart()?;
                cluster.wait_formed()
            })?;
            seen.ensure_single_owner()?;
            let absences = seen.owners.absences();
            ensure!(
                absences.is_empty(),
                "after {pause_millis} ms: {:?}",
                seen.owners
            );
            // The timer of the second restart.
            std::thread::sleep(Duration::from_secs(2));
        }
        ensure!(
            deaths::invocation(&owner)? == before,
            "the service was not restarted"
        );
        Ok(())
    });
}

/// With one of three nodes away no vote can be spared: a new daemon must vote at once, as the one before it would have.
#[test]
fn restarts_and_kills_disturb_nothing_while_another_node_is_away() {
    with_lab(|| {
        let cluster = Cluster::form(Options::three())?;
        let owner = cluster.owner()?;
        let mut others = cluster.nodes.iter().filter(|it| it.name() != owner.name());
        let (Some(other), Some(away)) = (others.next(), others.next()) else {
            anyhow::bail!("three nodes");
        };
        away.power_cut()?;
        clock::sleep(3 * cluster.options.deadtime);
        let before = deaths::invocation(&owner)?;
        let seen = cluster.watch(|| {
            for node in [other, &owner] {
                node.systemctl(&["restart", install::UNIT])?;
                clock::sleep(2 * cluster.options.deadtime);
                let pid = node.main_pid(install::UNIT)?;
                node.kill(pid.unwrap_or_default(), "KILL")?;
                clock::sleep(2 * cluster.options.deadtime);
            }
            Ok(())
        })?;
        seen.ensure_single_owner()?;
        let absences = seen.owners.absences();
        ensure!(absences.is_empty(), "it stayed: {:?}", seen.owners);
        ensure!(
            deaths::invocation(&owner)? == before,
            "the service was not restarted"
        );
        Ok(())
    });
}

#[test]
fn with_a_short_deadtime_a_killed_daemon_has_no_rival_either() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two().timing(50, 250))?;
        for _ in 0..3 {
            deaths::kill_daemon(&cluster)?.ensure_single_owner()?;
        }
        Ok(())
    });
}

#[test]
fn alone_a_killed_daemon_goes_on_with_what_it_ran() {
    with_lab(|| {
        let cluster = Cluster::form(Options {
            nodes: 1,
            ..Options::two()
        })?;
        let before = deaths::invocation(&cluster.owner()?)?;
        let seen = deaths::kill_daemon(&cluster)?;
        ensure!(seen.owners.absences().is_empty(), "{:?}", seen.owners);
        ensure!(
            deaths::invocation(&seen.value)? == before,
            "nothing was restarted"
        );
        Ok(())
    });
}

#[test]
fn a_daemon_that_hangs_is_ended_and_never_has_a_rival() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        deaths::end_daemon(&cluster, |owner, pid| owner.kill(pid, "STOP"))?.ensure_single_owner()
    });
}

/// What a dead daemon ran is released by what it wrote down, and the peer need not wait for deadtime.
fn releases_everything(before: impl FnOnce(&Machine) -> anyhow::Result<()>) {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        let seen = deaths::end_daemon_for_good(&cluster, before)?;
        seen.ensure_single_owner()?;
        let taken = &seen.value;
        let owner = taken.by.status()?.owner(GROUP);
        ensure!(owner == taken.by.name(), "{owner} has it");
        let journal = taken.by.journal_text(install::UNIT);
        ensure!(!journal.contains("is dead"), "it was told: {journal}");
        ensure!(!taken.dead.unit_runs("nginx.service"), "nothing runs there");
        Ok(())
    });
}

#[test]
fn with_a_broken_program_everything_is_released_before_another_takes_over() {
    releases_everything(|owner| {
        owner
            .shell("echo damaged > /root/x; chmod 755 /root/x; mv /root/x /usr/sbin/ha-node")
            .map(drop)
    });
}

#[test]
fn a_daemon_that_hangs_in_its_start_keeps_nothing_of_what_the_one_before_it_ran() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        let owner = cluster.owner()?;
        let other = cluster.other(&owner)?;
        // Takes the lock of the daemon, and is silent from then on.
        let hang =
            "[Service]\nExecStart=\nExecStart=/usr/bin/flock /var/lib/ha-node/lock sleep 60\n";
        owner.shell("mkdir -p /etc/systemd/system/ha-node.service.d")?;
        owner.write(
            "/etc/systemd/system/ha-node.service.d/hang.conf",
            hang,
            0o644,
        )?;
        owner.systemctl(&["daemon-reload"])?;
        let pid = owner.main_pid(install::UNIT)?.context("the daemon runs")?;
        let seen = cluster.watch(|| {
            owner.kill(pid, "KILL")?;
            cluster.wait_owner(&other, &other)
        })?;
        seen.ensure_single_owner()?;
        ensure!(!owner.unit_runs("nginx.service"), "nothing runs there");
        let journal = owner.journal_text("ha-node-release.service");
        ensure!(journal.contains("hangs"), "{journal}");
        Ok(())
    });
}

#[test]
fn with_a_broken_configuration_everything_is_released_before_another_takes_over() {
    releases_everything(|owner| owner.write(install::CONFIG, "[[group", 0o644));
}

#[test]
fn a_daemon_that_stays_dead_releases_everything_before_another_takes_over() {
    with_lab(|| {
        let cluster = Cluster::form(Options::two())?;
        let seen = deaths::kill_daemon_for_good(&cluster)?;
        seen.ensure_single_owner()?;
        let owner = seen.value.by.status()?.owner(GROUP);
        ensure!(owner == seen.value.by.name(), "{owner} has it");
        Ok(())
    });
}
