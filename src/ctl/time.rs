//! Points in time as people read them, in UTC as machines of one cluster may live in several zones.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const USEC_PER_SEC: u64 = 1_000_000;

/// Now, in microseconds since 1970.
pub(crate) fn now_usec() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

/// `2026-11-22 18:01:12 UTC`
pub(crate) fn absolute(usec: u64) -> String {
    let (date, seconds) = split(usec);
    format!("{date} {} UTC", clock(seconds))
}

/// `2026-11-22 18:01:12.345`
pub(crate) fn absolute_millis(usec: u64) -> String {
    let (date, seconds) = split(usec);
    format!(
        "{date} {}.{:03}",
        clock(seconds),
        usec % USEC_PER_SEC / 1000
    )
}

/// How long ago, in its two largest units: `3min 12s ago`.
pub(crate) fn relative(usec: u64, now_usec: u64) -> String {
    let seconds = now_usec.saturating_sub(usec) / USEC_PER_SEC;
    let units = [("d", 86_400), ("h", 3600), ("min", 60), ("s", 1)];
    let mut rest = seconds;
    let mut parts = Vec::new();
    for (name, size) in units {
        if rest >= size {
            parts.push(format!("{}{name}", rest / size));
            rest %= size;
        } else if !parts.is_empty() {
            break;
        }
        if parts.len() == 2 {
            break;
        }
    }
    if parts.is_empty() {
        "just now".to_owned()
    } else {
        format!("{} ago", parts.join(" "))
    }
}

fn split(usec: u64) -> (String, u64) {
    let seconds = usec / USEC_PER_SEC;
    let (year, month, day) = date(seconds / 86_400);
    (format!("{year:04}-{month:02}-{day:02}"), seconds % 86_400)
}

fn clock(seconds: u64) -> String {
    format!(
        "{:02}:{:02}:{:02}",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60
    )
}

/// Year, month and day of a number of days since 1970, by eras of 400 years that start in March.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_right_around_leap_days() {
        assert_eq!(date(0), (1970, 1, 1));
        assert_eq!(date(11_016), (2000, 2, 29));
        assert_eq!(date(11_017), (2000, 3, 1));
        assert_eq!(date(20_513), (2026, 3, 1));
        assert_eq!(absolute(1_795_370_472_345_678), "2026-11-22 18:01:12 UTC");
        assert_eq!(
            absolute_millis(1_795_370_472_345_678),
            "2026-11-22 18:01:12.345"
        );
    }

    #[test]
    fn ages_have_at_most_two_units() {
        let ago = |seconds: u64| relative(0, seconds * USEC_PER_SEC);
        assert_eq!(ago(0), "just now");
        assert_eq!(ago(59), "59s ago");
        assert_eq!(ago(192), "3min 12s ago");
        assert_eq!(ago(3600), "1h ago");
        assert_eq!(ago(3605), "1h ago");
        assert_eq!(ago(90_061), "1d 1h ago");
    }

    #[test]
    fn a_clock_that_went_back_is_now() {
        assert_eq!(relative(5_000_000, 0), "just now");
    }
}
