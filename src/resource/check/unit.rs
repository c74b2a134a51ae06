//! Whether a unit is active, as systemd's signals have told: nothing is asked for each attempt.

use super::Finding;
use crate::dbus::systemd1::{ActiveState, UnitState};
use crate::resource::unit::Units;

/// Judges what the unit does now.
pub(super) async fn ask(name: &str, units: &Units) -> Finding {
    match units.known_state(name).await {
        Some(state) => judge(&state),
        None => Finding::Unknown,
    }
}

fn judge(state: &UnitState) -> Finding {
    match state.active {
        ActiveState::Active
        | ActiveState::Reloading
        | ActiveState::Maintenance
        | ActiveState::Refreshing => Finding::Good,
        // A unit that systemd starts over and over is on its way most of the time.
        ActiveState::Activating
        | ActiveState::Inactive
        | ActiveState::Failed
        | ActiveState::Deactivating
        | ActiveState::Other(_) => Finding::Bad(format!("it is {state}, expected active")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_unit_that_is_on_its_way_is_not_active_yet() {
        let judge = |active: &str| {
            judge(&UnitState {
                active: active.to_owned().into(),
                sub: "x".to_owned(),
                has_job: false,
            })
        };
        assert_eq!(judge("active"), Finding::Good);
        assert_eq!(judge("reloading"), Finding::Good);
        assert_eq!(
            judge("activating"),
            Finding::Bad("it is activating (x), expected active".to_owned())
        );
        assert_ne!(judge("failed"), Finding::Good);
    }
}
