//! What checks of pages over TLS need of this machine: the program that asks, and certificates that it may read.

use crate::config::Config;
use crate::config::health::{CURL, CURL_USER, HttpsProbe, Probe, Trust};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Everybody may read it.
const READABLE: u32 = 0o004;

pub(super) fn warnings(config: &Config) -> Vec<String> {
    warnings_with(config, Path::new(CURL))
}

fn warnings_with(config: &Config, curl: &Path) -> Vec<String> {
    let probes: Vec<&HttpsProbe> = probes(config).collect();
    let missing = (!probes.is_empty() && !curl.exists()).then(|| {
        let path = curl.display();
        format!("there is no {path} on this machine, so its https checks say nothing: install curl")
    });
    let authorities: BTreeSet<&str> = probes
        .into_iter()
        .filter_map(|probe| match &probe.trust {
            Trust::Ca(path) => Some(path.as_str()),
            Trust::System | Trust::Any => None,
        })
        .collect();
    let unreadable = authorities.into_iter().filter_map(authority_warning);
    missing.into_iter().chain(unreadable).collect()
}

fn probes(config: &Config) -> impl Iterator<Item = &HttpsProbe> {
    let checks = config.groups.iter().flat_map(|group| {
        let of_resources = group.resources.iter().flat_map(|resource| &resource.checks);
        of_resources.chain(&group.checks)
    });
    checks.filter_map(|check| match &check.probe {
        Probe::Https(probe) => Some(probe),
        Probe::Http(_) | Probe::Tcp { .. } | Probe::Exec { .. } | Probe::Unit { .. } => None,
    })
}

fn authority_warning(path: &str) -> Option<String> {
    let end = "so checks with it as ca say nothing";
    match fs::metadata(path) {
        Err(error) => Some(format!("\"{path}\": {error}, {end}")),
        Ok(data) if !data.is_file() => Some(format!("\"{path}\" is no file, {end}")),
        Ok(data) if data.permissions().mode() & READABLE == 0 => Some(format!(
            "the user {CURL_USER} may not read \"{path}\", {end}: chmod o+r {path}"
        )),
        Ok(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::Permissions;

    #[test]
    fn curl_and_certificates_are_missed_where_checks_need_them() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| directory.path().join(name);
        let load = |check: &str| {
            let text = format!(
                "[[group]]\nname = \"web\"\ncheck = {{ {check} }}\nresources = [{{ unit = \"a.service\" }}]\n"
            );
            fs::write(file("ha-node.toml"), text).unwrap();
            let loaded = Config::load_named(&file("ha-node.toml"), std::iter::empty(), "alpha");
            loaded.unwrap().0
        };
        let plain = load("http = \"http://127.0.0.1/\"");
        assert_eq!(warnings_with(&plain, &file("curl")), Vec::<String>::new());
        let ca = file("ca.pem");
        let own = load(&format!(
            "http = \"https://127.0.0.1/\", ca = \"{}\"",
            ca.display()
        ));
        let told = warnings_with(&own, &file("curl"));
        assert!(
            told[0].contains("install curl") && told[1].contains("ca.pem"),
            "{told:?}"
        );
        fs::write(file("curl"), "").unwrap();
        fs::write(&ca, "").unwrap();
        fs::set_permissions(&ca, Permissions::from_mode(0o600)).unwrap();
        let told = warnings_with(&own, &file("curl"));
        assert!(told.len() == 1 && told[0].contains("chmod o+r"), "{told:?}");
        fs::set_permissions(&ca, Permissions::from_mode(0o644)).unwrap();
        assert_eq!(warnings_with(&own, &file("curl")), Vec::<String>::new());
    }
}
