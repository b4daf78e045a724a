//! Moments as `/proc` tells them: in clock ticks since the machine's start.

/// A moment. It has the length of a tick, so two that are equal may be either's first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Ticks(u64);

/// What the kernel tells programs, whatever its own; x86 and ARM have no other.
const PER_SECOND: u64 = 100;
/// Of the fields after the process' name, in parentheses, its start is the 20th.
const START_FIELD: usize = 19;

impl Ticks {
    /// When the process started, by its `/proc/PID/stat`. Its name may hold anything, closing
    /// parentheses too.
    pub(super) fn of_start(stat: &[u8]) -> Option<Self> {
        let name_end = stat.iter().rposition(|byte| *byte == b')')?;
        let fields = str::from_utf8(&stat[name_end + 1..]).ok()?;
        fields.split_ascii_whitespace().nth(START_FIELD)?.parse().ok().map(Self)
    }

    /// Now, by `/proc/uptime`: seconds with two decimals.
    pub(super) fn of_uptime(uptime: &[u8]) -> Option<Self> {
        let text = str::from_utf8(uptime).ok()?.split_ascii_whitespace().next()?;
        let (seconds, hundredths) = text.split_once('.')?;
        let (seconds, hundredths) = (seconds.parse::<u64>().ok()?, hundredths.parse::<u64>().ok()?);
        seconds.checked_mul(PER_SECOND)?.checked_add(hundredths).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: &str = "S 1 4242 4242 0 -1 4194304 1 0 0 0 3 1 0 0 20 0 7 0";

    #[test]
    fn reads_a_start_whatever_the_process_is_called() {
        for name in ["(python3)", "(a b)", "(a) S 1 2 (b)", "(\n))"] {
            let stat = format!("4242 {name} {REST} 987654 1000000 55 18446744073709551615");
            assert_eq!(Ticks::of_start(stat.as_bytes()), Some(Ticks(987_654)), "{name:?}");
        }
        let named = [b"1 (\xff\xfe) ".as_slice(), REST.as_bytes(), b" 12 0\n"].concat();
        assert_eq!(Ticks::of_start(&named), Some(Ticks(12)));
    }

    #[test]
    fn reads_the_time_since_the_machines_start() {
        assert_eq!(Ticks::of_uptime(b"34112.07 60000.00\n"), Some(Ticks(3_411_207)));
    }

    #[test]
    fn tells_nothing_by_a_text_that_is_none() {
        for text in ["", "1 (", "1 (x) S", "1 (x) \u{0}", &format!("1 (x) {REST} soon")] {
            assert_eq!(Ticks::of_start(text.as_bytes()), None, "{text:?}");
        }
        for text in ["", "12", "x.y 1", "99999999999999999999.00", "18446744073709551615.00"] {
            assert_eq!(Ticks::of_uptime(text.as_bytes()), None, "{text:?}");
        }
        assert_eq!(Ticks::of_uptime(b"\xff.\xff"), None);
    }
}
