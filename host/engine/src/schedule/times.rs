//! Which times come after another. Pure, and with bounded work: a schedule that never fires is answered as quickly as
//! one that does.

use chrono::{DateTime, MappedLocalTime, NaiveDateTime, Offset, TimeDelta, TimeZone, Timelike};
use chrono_tz::Tz;
use uuid::Uuid;

use super::{
    Spec, UnixSeconds,
    spec::{Every, Pattern},
};
use crate::history::UnixMs;

/// What comes after a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// This time.
    At(UnixSeconds),
    /// Nothing up to and with this time; later ones were not looked at, because everything up to there is skipped in
    /// small pieces.
    NothingUntil(UnixSeconds),
    /// Nothing any more.
    Never,
}

/// So much looking one question is worth: each look for the next time of a pattern, and each skip that a time is held
/// against, counts as one.
const PATIENCE: u32 = 20_000;

/// So much it is worth to find out whether a new schedule comes at all.
const CAREFUL: u32 = 50_000;

/// A schedule that is skipped for so many seconds on end is taken for one that never comes.
const LONGEST_SKIP: i64 = 366 * 86_400;

/// The amount of jitter follows from this, the schedule and the time.
const JITTER: Uuid = Uuid::from_u128(0x6169_726c_6f63_6b00_8000_6a69_7474_6572);

impl Spec {
    /// The first time after `time`.
    pub fn after(&self, time: UnixSeconds) -> After {
        self.after_within(time, &mut PATIENCE.clone())
    }

    /// The same for as much looking as is left, and one piece at least.
    pub(super) fn after_within(&self, time: UnixSeconds, patience: &mut u32) -> After {
        let mut cursor = time.saturating_add(1).max(self.first);
        // What comes next of each pattern, as long as the cursor has not passed it.
        let mut nexts = vec![Some(UnixSeconds::MIN); self.patterns.len()];
        loop {
            if cursor > self.last {
                return After::Never;
            }
            for (pattern, next) in self.patterns.iter().zip(&mut nexts) {
                if next.is_some_and(|next| next < cursor) {
                    *next = pattern.from(cursor);
                    *patience = patience.saturating_sub(1);
                }
            }
            let intervals = self.intervals.iter().filter_map(|every| every.from(cursor));
            let found = nexts.iter().copied().flatten().chain(intervals).min();
            let Some(found) = found.filter(|&found| found <= self.last) else {
                return After::Never;
            };
            match self.skipped_until(found) {
                None => return After::At(found),
                Some(until) => cursor = until,
            }
            *patience = patience.saturating_sub(u32::try_from(self.skip.len()).unwrap_or(u32::MAX));
            if *patience == 0 {
                return After::NothingUntil(cursor - 1);
            }
        }
    }

    /// Up to `count` times after `time`. Fewer when too much is skipped between them.
    pub fn upcoming(&self, time: UnixSeconds, count: usize) -> Vec<UnixSeconds> {
        let (mut times, mut last, mut patience) = (Vec::new(), time, PATIENCE);
        while times.len() < count {
            let After::At(next) = self.after_within(last, &mut patience) else { break };
            times.push(next);
            last = next;
        }
        times
    }

    /// Why a schedule that is made now never comes, if all of it is skipped. One whose times have passed is another
    /// matter.
    pub fn never_comes(&self, now: UnixSeconds) -> Option<String> {
        if self.skip.is_empty() {
            return None;
        }
        let unskipped = Self { skip: Vec::new(), ..self.clone() };
        let horizon = now.max(self.first).saturating_add(LONGEST_SKIP);
        let until = match self.after_within(now, &mut CAREFUL.clone()) {
            After::Never if matches!(unskipped.after(now), After::At(_)) => {
                return Some("all of its times are skipped, so it never comes".into());
            }
            After::NothingUntil(until) if until > horizon => until,
            // What is skipped in small pieces is not looked at piece by piece for so long.
            After::NothingUntil(until) if self.skips_whole_days(until, horizon) => horizon,
            _ => return None,
        };
        let until = DateTime::from_timestamp(until, 0).unwrap_or_default();
        Some(format!("all of its times up to {} are skipped, so it never comes", until.date_naive()))
    }

    /// When the execution for `time` is to start: as much later as jitter says, and before the next time.
    ///
    /// The amount is the same whenever it is asked for.
    pub fn due(&self, schedule_id: &str, time: UnixSeconds) -> UnixMs {
        let nominal = unix_ms(time);
        let mut room = u64::try_from(self.jitter.as_millis()).unwrap_or(u64::MAX);
        if room == 0 {
            return nominal;
        }
        if let After::At(next) = self.after(time) {
            room = room.min(unix_ms(next).saturating_sub(nominal));
        }
        let (random, _) = Uuid::new_v5(&JITTER, format!("{schedule_id}\n{time}").as_bytes()).as_u64_pair();
        let share = (u128::from(random) * u128::from(room)) >> 64;
        nominal + share as u64
    }

    /// If `time` is skipped: a later time, with nothing but skipped ones between.
    fn skipped_until(&self, time: UnixSeconds) -> Option<UnixSeconds> {
        let local = local(self.zone, time)?;
        let matching =
            self.skip.iter().filter(|pattern| pattern.cron.is_time_matching(&local).unwrap_or(false));
        matching.map(|pattern| pattern.end_of_piece(time, local)).max()
    }
}

impl Pattern {
    /// Its first time from `cursor` on.
    fn from(&self, cursor: UnixSeconds) -> Option<UnixSeconds> {
        let mut clock = local(self.zone, cursor)?;
        loop {
            clock = self.cron.find_next_occurrence(&clock, true).ok()?;
            match self.zone.from_local_datetime(&clock) {
                MappedLocalTime::Single(time) | MappedLocalTime::Ambiguous(time, _) => {
                    // When the clock shows this for the second time, the first has passed.
                    if time.timestamp() >= cursor {
                        return Some(time.timestamp());
                    }
                }
                // The clock never shows this.
                MappedLocalTime::None => {}
            }
            clock = clock.checked_add_signed(TimeDelta::seconds(1))?;
        }
    }

    /// For a time that matches: the end of the day, hour, minute or second that matches as a whole.
    fn end_of_piece(&self, time: UnixSeconds, local: NaiveDateTime) -> UnixSeconds {
        let in_hour = i64::from(local.minute() * 60 + local.second());
        let in_day = i64::from(local.hour()) * 3600 + in_hour;
        let pieces = [
            (self.every_hour && self.every_minute && self.every_second, 86_400 - in_day),
            (self.every_minute && self.every_second, 3600 - in_hour),
            (self.every_second, 60 - i64::from(local.second())),
        ];
        let offset = |time| offset(self.zone, time);
        pieces
            .into_iter()
            // Where the clock is changed meanwhile, the piece is not as long as it seems.
            .find(|&(whole, rest)| whole && offset(time) == offset(time + rest - 1))
            .map_or(time + 1, |(_, rest)| time + rest)
    }
}

impl Every {
    /// Its first time from `cursor` on.
    fn from(self, cursor: UnixSeconds) -> Option<UnixSeconds> {
        let past = (cursor - self.offset).rem_euclid(self.seconds);
        if past == 0 { Some(cursor) } else { cursor.checked_add(self.seconds - past) }
    }
}

/// What the clock on the wall shows. `None` beyond the calendar.
pub(super) fn local(zone: Tz, time: UnixSeconds) -> Option<NaiveDateTime> {
    Some(DateTime::from_timestamp(time, 0)?.with_timezone(&zone).naive_local())
}

pub(super) fn offset(zone: Tz, time: UnixSeconds) -> Option<i32> {
    let utc = DateTime::from_timestamp(time, 0)?.naive_utc();
    Some(zone.offset_from_utc_datetime(&utc).fix().local_minus_utc())
}

pub(super) fn unix_ms(time: UnixSeconds) -> UnixMs {
    u64::try_from(time).unwrap_or(0).saturating_mul(1000)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use serde_json::{Value, json};

    use super::*;
    use crate::schedule::Definition;

    fn spec(mut definition: Value) -> Spec {
        definition["input"] = json!({});
        Spec::new(
            &Definition::read(&serde_json::from_str(&definition.to_string()).expect("an object"))
                .expect("is read"),
        )
        .expect("is valid")
    }

    fn at(text: &str) -> i64 {
        DateTime::parse_from_rfc3339(text).expect("a time").timestamp()
    }

    fn texts(spec: &Spec, from: &str, count: usize) -> Vec<String> {
        let text =
            |time| DateTime::from_timestamp(time, 0).expect("a time").format("%m-%dT%H:%M:%S").to_string();
        spec.upcoming(at(from), count).into_iter().map(text).collect()
    }

    #[test]
    fn a_local_time_that_does_not_exist_is_left_out_and_one_that_exists_twice_counts_once() {
        let spec = spec(json!({ "cron_expressions": ["30 2 * * *"], "time_zone_name": "Europe/Berlin" }));
        let spring = texts(&spec, "2026-03-27T12:00:00Z", 3);
        assert_eq!(spring, ["03-28T01:30:00", "03-30T00:30:00", "03-31T00:30:00"], "not on the 29th");
        let autumn = texts(&spec, "2026-10-24T12:00:00Z", 2);
        assert_eq!(autumn, ["10-25T00:30:00", "10-26T01:30:00"], "at the first 2:30 alone");
        // Every 15 minutes: the repeated hour has them once.
        let quarters =
            self::spec(json!({ "cron_expressions": ["*/15 * * * *"], "time_zone_name": "Europe/Berlin" }));
        let around = texts(&quarters, "2026-10-25T00:30:00Z", 3);
        assert_eq!(around, ["10-25T00:45:00", "10-25T02:00:00", "10-25T02:15:00"]);
        // An interval knows nothing of clocks.
        let hours =
            self::spec(json!({ "intervals": [{ "every": "PT1H" }], "time_zone_name": "Europe/Berlin" }));
        assert_eq!(texts(&hours, "2026-10-25T00:00:00Z", 2), ["10-25T01:00:00", "10-25T02:00:00"]);
    }

    #[test]
    fn calendars_want_both_days_and_cron_wants_one_of_them() {
        let calendar = json!([{ "hour": [{ "start": 9 }], "day_of_month": [{ "start": 1, "end": 7 }], "day_of_week": [{ "start": 1 }] }]);
        let first_mondays = texts(&spec(json!({ "calendars": calendar })), "2026-01-01T00:00:00Z", 2);
        assert_eq!(first_mondays, ["01-05T09:00:00", "02-02T09:00:00"]);
        let either = texts(&spec(json!({ "cron_expressions": ["0 9 1-2 * 1"] })), "2026-01-01T00:00:00Z", 3);
        assert_eq!(either, ["01-01T09:00:00", "01-02T09:00:00", "01-05T09:00:00"]);
    }

    #[test]
    fn a_calendar_with_a_year_fires_once() {
        let day = |start: i64| json!([{ "start": start }]);
        let calendar =
            json!([{ "year": day(2026), "month": day(12), "day_of_month": day(24), "hour": day(18) }]);
        let spec = spec(json!({ "calendars": calendar, "time_zone_name": "Asia/Kolkata" }));
        assert_eq!(texts(&spec, "2026-01-01T00:00:00Z", 5), ["12-24T12:30:00"]);
        assert_eq!(spec.after(at("2026-12-24T12:30:00Z")), After::Never);
    }

    #[test]
    fn a_cron_expression_may_have_its_own_zone_seconds_a_year_and_a_nickname() {
        let definition = json!({ "cron_expressions": [
            "CRON_TZ=America/New_York 0 9 * * MON", "15 0 12 1 JAN * 2027", "@yearly", "@midnight" ] });
        let times = texts(&spec(definition), "2026-12-31T23:59:59Z", 5);
        assert_eq!(
            times,
            ["01-01T00:00:00", "01-01T12:00:15", "01-02T00:00:00", "01-03T00:00:00", "01-04T00:00:00"]
        );
    }

    #[test]
    fn start_and_end_are_included() {
        let spec = spec(json!({ "intervals": [{ "every": "PT1H", "offset": "PT10M" }],
            "start_at": "2026-01-01T02:10:00Z", "end_at": "2026-01-01T04:10:00Z" }));
        assert_eq!(
            texts(&spec, "2025-01-01T00:00:00Z", 5),
            ["01-01T02:10:00", "01-01T03:10:00", "01-01T04:10:00"]
        );
    }

    #[test]
    fn jitter_is_always_the_same_never_early_and_never_beyond_the_next_time() {
        let spec = spec(json!({ "intervals": [{ "every": "PT10S" }], "jitter": "PT1H" }));
        let mut amounts = Vec::new();
        for time in (0..10_000).step_by(10) {
            let due = spec.due("s", time);
            assert_eq!(due, spec.due("s", time));
            assert!((unix_ms(time)..unix_ms(time + 10)).contains(&due), "{time}: {due}");
            amounts.push(due - unix_ms(time));
        }
        let mean = amounts.iter().sum::<u64>() / 1000;
        assert!((4_500..5_500).contains(&mean), "the amounts are spread: {mean}");
        assert_ne!(spec.due("s", 10), spec.due("t", 10));
    }

    #[test]
    fn a26_a_question_for_times_costs_the_same_whatever_the_schedule_is() {
        let whole = |high: i64| json!([{ "start": 0, "end": high }]);
        let part = |low: i64, high: i64, step: i64| json!([{ "start": low, "end": high, "step": step }]);
        let every_second = json!({ "second": whole(59), "minute": whole(59), "hour": whole(23) });
        let with = |field: &str, range: &Value| {
            let mut calendar = every_second.clone();
            calendar[field] = range.clone();
            calendar
        };
        let crons = |text: &str| vec![json!(text); 100];
        let now = at("2026-01-01T00:00:00Z");
        let mut all = Vec::new();
        for (field, low, high) in
            [("second", 0, 59), ("minute", 0, 59), ("hour", 0, 23), ("day_of_week", 0, 6), ("month", 1, 12)]
        {
            let halves = [part(low, high, 2), part(low + 1, high, 2)];
            let skip: Vec<Value> = (0..20).map(|n| with(field, &halves[n % 2])).collect();
            for text in ["* * * * *", "* * * * * *", "59 59 23 * * *", "0 0 29 2 +MON"] {
                all.push(json!({ "cron_expressions": crons(text), "skip": skip }));
                all.push(json!({ "cron_expressions": crons(text), "skip": [with(field, &halves[0])] }));
            }
            all.push(json!({ "intervals": [{ "every": "PT1S" }], "skip": skip }));
        }
        for definition in all {
            let (spec, mut patience) = (spec(definition.clone()), PATIENCE);
            let first = spec.after_within(now, &mut patience);
            assert!(
                matches!(first, After::At(_)) || patience == 0 || first == After::Never,
                "{definition}: {first:?}"
            );
            // Whoever goes on from there comes to the same times as one who looks without a limit.
            let (mut cursor, mut steps) = (now, 0);
            while let After::NothingUntil(until) = spec.after(cursor) {
                assert!(until > cursor, "{definition}");
                (cursor, steps) = (until, steps + 1);
                if steps == 5 {
                    break;
                }
            }
        }
    }

    #[test]
    fn a26_a_schedule_whose_times_are_all_skipped_is_told_so() {
        let whole = |high: i64| json!([{ "start": 0, "end": high }]);
        let every_second = json!({ "second": whole(59), "minute": whole(59), "hour": whole(23) });
        let with = |field: &str, range: Value| {
            let mut calendar = every_second.clone();
            calendar[field] = range;
            calendar
        };
        let range = |low: i64, high: i64| json!([{ "start": low, "end": high }]);
        let says = |skip: Value| {
            let definition = json!({ "cron_expressions": ["* * * * *", "*/7 3 * * *"], "skip": skip });
            spec(definition).never_comes(at("2026-06-01T00:00:00Z"))
        };
        for never in [
            json!([every_second]),
            json!([with("hour", range(0, 11)), with("hour", range(12, 23))]),
            json!([with("day_of_week", range(0, 2)), with("day_of_week", range(3, 6))]),
            json!([with("month", range(1, 5)), with("month", range(6, 12))]),
            json!([with("day_of_month", range(1, 15)), with("day_of_month", range(16, 31))]),
        ] {
            let why = says(never.clone());
            assert!(why.is_some_and(|why| why.contains("never comes")), "{never}");
        }
        for comes in [
            json!([with("second", range(1, 59))]),
            json!([with("hour", range(0, 22))]),
            json!([with("month", range(1, 11))]),
            json!([with("day_of_week", range(0, 5))]),
            json!([with("year", range(2026, 2026))]),
        ] {
            assert_eq!(says(comes.clone()), None, "{comes}");
        }
    }

    #[test]
    fn a_schedule_that_never_fires_is_answered_quickly() {
        let whole = |high: i64| json!([{ "start": 0, "end": high }]);
        let every_day = json!({ "second": whole(59), "minute": whole(59), "hour": whole(23) });
        let odd_and_even = |field: &str| {
            let part = |start: i64, end: i64| {
                let mut calendar = every_day.clone();
                calendar[field] = json!([{ "start": start, "end": end, "step": 2 }]);
                calendar
            };
            json!([part(0, 58), part(1, 59)])
        };
        for skip in [json!([every_day]), odd_and_even("minute"), odd_and_even("second")] {
            let began = Instant::now();
            let never = spec(
                json!({ "cron_expressions": ["* * * * * *"], "intervals": [{ "every": "PT1S" }], "skip": skip }),
            );
            let answer = never.after(at("2026-01-01T00:00:00Z"));
            assert!(matches!(answer, After::NothingUntil(_)), "{answer:?}");
            assert!(began.elapsed() < airlock_patience::LIMIT, "{:?}", began.elapsed());
        }
        let leap = spec(json!({ "cron_expressions": ["0 0 29 2 +MON"] }));
        assert_eq!(texts(&leap, "2026-01-01T00:00:00Z", 1), ["02-29T00:00:00"], "in 2044");
    }
}
