//! Whether skips leave anything of the days on which they hold. A day is looked at as a whole, second by second, so that a
//! schedule that is skipped in many small pieces costs no more than one that is skipped in large ones.

use std::collections::{HashMap, HashSet};

use chrono::{NaiveDate, NaiveDateTime, NaiveTime};
use chrono_tz::Tz;

use super::{
    Spec, UnixSeconds,
    spec::{Every, Pattern},
    times::{local, offset},
};

const DAY: i64 = 86_400;

/// Seconds of a day, sixty to a minute.
struct Clock([u64; 24 * 60]);

/// What could fire on a day and what is skipped.
#[derive(PartialEq, Eq, Hash)]
struct Kind {
    /// Places among the patterns of the skips' zone.
    fires: Vec<usize>,
    /// Places among the skips.
    skips: Vec<usize>,
    /// For each pattern of another zone, by how many seconds the skips' clock is ahead of its own: four possibilities, two
    /// where one of the clocks is changed that day.
    ahead: Vec<[i32; 4]>,
    /// The skips' clock against UTC, when the day begins and when it ends.
    offsets: [i32; 2],
}

impl Spec {
    /// Whether everything that could fire from `from` to `to` is skipped. What it could not tell counts as not skipped.
    pub(super) fn skips_whole_days(&self, from: UnixSeconds, to: UnixSeconds) -> bool {
        let (from, to) = (from.max(self.first), to.min(self.last));
        let day_of = |time| local(self.zone, time).map(|local| local.date());
        let (Some(mut day), Some(last)) = (day_of(from), day_of(to)) else { return false };
        let (mine, others): (Vec<&Pattern>, Vec<&Pattern>) =
            self.patterns.iter().partition(|pattern| pattern.zone == self.zone);
        let fires: Vec<Clock> = mine.iter().map(|pattern| Clock::of(pattern)).collect();
        let skips: Vec<Clock> = self.skip.iter().map(Clock::of).collect();
        // What is the same on many days is made once, and days on which the same holds are looked at once.
        let mut of_others: HashMap<(usize, i32), Clock> = HashMap::new();
        let mut of_intervals: HashMap<i32, Clock> = HashMap::new();
        let mut skipped: HashSet<Kind> = HashSet::new();
        while day <= last {
            let Some(kind) = self.kind(day, &mine, &others) else { return false };
            if !skipped.contains(&kind) {
                let mut left = Clock::empty();
                kind.fires.iter().for_each(|place| left.add(&fires[*place]));
                for (place, ahead) in kind.ahead.iter().enumerate() {
                    for ahead in ahead {
                        // By another clock it may be another day: it could be any.
                        let shifted = || Clock::of(others[place]).shifted(*ahead);
                        left.add(of_others.entry((place, *ahead)).or_insert_with(shifted));
                    }
                }
                for offset in kind.offsets {
                    let through = || Clock::of_intervals(&self.intervals, offset);
                    left.add(of_intervals.entry(offset).or_insert_with(through));
                }
                kind.skips.iter().for_each(|place| left.remove(&skips[*place]));
                if !left.is_empty() {
                    return false;
                }
                skipped.insert(kind);
            }
            let Some(next) = day.succ_opt() else { return false };
            day = next;
        }
        true
    }

    fn kind(&self, day: NaiveDate, mine: &[&Pattern], others: &[&Pattern]) -> Option<Kind> {
        let (begin, end) = edges(self.zone, day)?;
        let offsets = |zone| Some([offset(zone, begin)?, offset(zone, end)?]);
        let own = offsets(self.zone)?;
        let ahead = |other: &&Pattern| {
            let theirs = offsets(other.zone)?;
            Some([own[0] - theirs[0], own[0] - theirs[1], own[1] - theirs[0], own[1] - theirs[1]])
        };
        let holds = |(place, pattern): (usize, &Pattern)| pattern.holds_on(day).then_some(place);
        Some(Kind {
            fires: mine.iter().copied().enumerate().filter_map(holds).collect(),
            skips: self.skip.iter().enumerate().filter_map(holds).collect(),
            ahead: others.iter().map(ahead).collect::<Option<_>>()?,
            offsets: own,
        })
    }
}

/// When a day of a zone begins and ends, or an hour or some around that where the clock is changed at midnight.
fn edges(zone: Tz, day: NaiveDate) -> Option<(UnixSeconds, UnixSeconds)> {
    let midnight = NaiveDateTime::from(day).and_utc().timestamp();
    let offset = i64::from(offset(zone, midnight)?);
    let spare = 2 * 3600;
    Some((midnight - offset - spare, midnight - offset + DAY + spare))
}

impl Pattern {
    /// Whether there is a time of the day at which it matches.
    fn holds_on(&self, day: NaiveDate) -> bool {
        let fields = &self.cron.pattern;
        let first = |field: &croner::CronComponent| field.values().first().map(|value| u32::from(*value));
        let time = || {
            let (hour, minute, second) =
                (first(&fields.hours)?, first(&fields.minutes)?, first(&fields.seconds)?);
            NaiveTime::from_hms_opt(hour, minute, second)
        };
        // The fields of the day and those of the clock have nothing to do with each other.
        time().is_some_and(|time| self.cron.is_time_matching(&day.and_time(time)).unwrap_or(false))
    }
}

impl Clock {
    fn empty() -> Self {
        Self([0; 24 * 60])
    }

    /// The times of a pattern.
    fn of(pattern: &Pattern) -> Self {
        let mut clock = Self::empty();
        let fields = &pattern.cron.pattern;
        let seconds = fields.seconds.values().into_iter().fold(0, |mask, second| mask | 1u64 << second);
        let minutes = fields.minutes.values();
        for hour in fields.hours.values() {
            for minute in &minutes {
                clock.0[usize::from(hour) * 60 + usize::from(*minute)] |= seconds;
            }
        }
        clock
    }

    /// The times of the day to which intervals come sooner or later, by a clock with this offset from UTC.
    fn of_intervals(intervals: &[Every], offset: i32) -> Self {
        let mut clock = Self::empty();
        for every in intervals {
            // It goes through the days in steps of what it has in common with a day.
            let (mut step, mut rest) = (DAY, every.seconds % DAY);
            while rest > 0 {
                (step, rest) = (rest, step % rest);
            }
            let first = (every.offset + i64::from(offset)).rem_euclid(step);
            (0..DAY / step).for_each(|n| clock.set(first + n * step));
        }
        clock
    }

    fn set(&mut self, second: i64) {
        let second = second.rem_euclid(DAY);
        self.0[(second / 60) as usize] |= 1 << (second % 60);
    }

    fn add(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(own, other)| *own |= other);
    }

    fn remove(&mut self, other: &Self) {
        self.0.iter_mut().zip(&other.0).for_each(|(own, other)| *own &= !other);
    }

    fn is_empty(&self) -> bool {
        self.0.iter().all(|minute| *minute == 0)
    }

    /// The same times by a clock that is so much ahead.
    fn shifted(&self, ahead: i32) -> Self {
        let mut shifted = Self::empty();
        for (minute, mask) in (0..).zip(&self.0) {
            let second = minute * 60 + i64::from(ahead);
            match second.rem_euclid(60) {
                // Nearly always: clocks differ by whole minutes.
                0 => shifted.0[(second.rem_euclid(DAY) / 60) as usize] |= mask,
                _ => (0..60).filter(|n| mask & (1 << n) != 0).for_each(|n| shifted.set(second + n)),
            }
        }
        shifted
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use chrono::Datelike as _;
    use serde_json::{Value, json};

    use super::*;
    use crate::schedule::{After, Definition};

    fn spec(definition: &Value) -> Spec {
        let mut definition = definition.clone();
        definition["input"] = json!({});
        Spec::new(
            &Definition::read(&serde_json::from_str(&definition.to_string()).expect("an object"))
                .expect("is read"),
        )
        .expect("is valid")
    }

    fn now() -> UnixSeconds {
        chrono::DateTime::parse_from_rfc3339("2026-06-01T00:00:00Z").expect("a time").timestamp()
    }

    /// Numbers that look random.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, limit: usize) -> usize {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.0 >> 33) as usize % limit
        }

        /// Some of the values from 0 to `limit` as ranges, and with it those that are left: together all of them.
        fn pieces(&mut self, limit: i64) -> Vec<Value> {
            let range =
                |start: i64, end: i64, step: i64| json!([{ "start": start, "end": end, "step": step }]);
            let middle = 1 + self.below(limit as usize - 1) as i64;
            match self.below(3) {
                0 => vec![range(0, limit, 1)],
                1 => vec![range(0, middle - 1, 1), range(middle, limit, 1)],
                _ => vec![range(0, limit, 2), range(1, limit, 2)],
            }
        }
    }

    /// A field as plain numbers, read from what was written and not by who reads schedules.
    fn numbers(calendar: &Value, field: &str, otherwise: std::ops::RangeInclusive<i64>) -> BTreeSet<i64> {
        let Some(ranges) = calendar[field].as_array() else { return otherwise.collect() };
        let number = |range: &Value, name: &str| range[name].as_i64().filter(|number| *number != 0);
        let all = ranges.iter().flat_map(|range| {
            let start = range["start"].as_i64().expect("a start");
            let end = number(range, "end").unwrap_or(start);
            (start..=end).step_by(number(range, "step").unwrap_or(1) as usize)
        });
        all.collect()
    }

    /// Times by plain sets.
    struct Plain {
        hours: BTreeSet<i64>,
        minutes: BTreeSet<i64>,
        seconds: BTreeSet<i64>,
        weekdays: BTreeSet<i64>,
        months: BTreeSet<i64>,
    }

    impl Plain {
        fn of(calendar: &Value) -> Self {
            Self {
                hours: numbers(calendar, "hour", 0..=0),
                minutes: numbers(calendar, "minute", 0..=0),
                seconds: numbers(calendar, "second", 0..=0),
                weekdays: numbers(calendar, "day_of_week", 0..=6),
                months: numbers(calendar, "month", 1..=12),
            }
        }

        fn is_on(&self, day: NaiveDate) -> bool {
            self.weekdays.contains(&day.weekday().num_days_from_sunday().into())
                && self.months.contains(&day.month().into())
        }

        fn has(&self, (hour, minute, second): (i64, i64, i64)) -> bool {
            self.hours.contains(&hour) && self.minutes.contains(&minute) && self.seconds.contains(&second)
        }
    }

    /// The first time that is not skipped, of all in a year and some days, one after the other.
    fn model(calendars: &[Plain], skips: &[Plain]) -> Option<String> {
        let from = local(Tz::UTC, now()).expect("a day").date();
        let mut seen = BTreeSet::new();
        for day in from.iter_days().take(370) {
            // Nothing else of a day counts here.
            if !seen.insert((day.month(), day.weekday().num_days_from_sunday())) {
                continue;
            }
            for calendar in calendars.iter().filter(|calendar| calendar.is_on(day)) {
                let skips: Vec<&Plain> = skips.iter().filter(|skip| skip.is_on(day)).collect();
                for hour in &calendar.hours {
                    for minute in &calendar.minutes {
                        for second in &calendar.seconds {
                            let time = (*hour, *minute, *second);
                            if !skips.iter().any(|skip| skip.has(time)) {
                                return Some(format!("{day} {time:?}"));
                            }
                        }
                    }
                }
            }
        }
        None
    }

    #[test]
    fn a26_what_is_skipped_piece_by_piece_is_refused_if_and_only_if_no_time_comes() {
        let mut dice = Dice(26);
        let (mut never, mut comes) = (0, 0);
        for case in 0..160 {
            let single = |value: i64| json!([{ "start": value }]);
            let calendars: Vec<Value> = (0..1 + dice.below(2))
                .map(|_| {
                    let mut calendar = json!({});
                    let hours = dice.below(20) as i64;
                    calendar["hour"] = json!([{ "start": hours, "end": hours + 3 }]);
                    let single = single(dice.below(60) as i64);
                    let (fine, coarse) =
                        if dice.below(4) == 0 { ("second", "minute") } else { ("minute", "second") };
                    (calendar[fine], calendar[coarse]) = (dice.pieces(59).swap_remove(0), single);
                    calendar
                })
                .collect();
            // Pieces of every field: all of them together are all times.
            let (seconds, minutes, hours, days) =
                (dice.pieces(59), dice.pieces(59), dice.pieces(23), dice.pieces(6));
            let mut skip = Vec::new();
            for second in &seconds {
                for minute in &minutes {
                    for hour in &hours {
                        for day in &days {
                            skip.push(json!({ "second": second, "minute": minute, "hour": hour, "day_of_week": day }));
                        }
                    }
                }
            }
            // In half of the cases something is missing, or does not hold for a part of the year.
            if dice.below(2) == 0 {
                let place = dice.below(skip.len());
                match dice.below(2) {
                    0 => drop(skip.remove(place)),
                    _ => skip[place]["month"] = json!([{ "start": 2, "end": 12 }]),
                }
            }
            if skip.is_empty() {
                continue;
            }
            let definition = json!({ "calendars": calendars, "skip": skip });
            let plain = |list: &[Value]| list.iter().map(Plain::of).collect::<Vec<_>>();
            let first = model(&plain(&calendars), &plain(&skip));
            let spec = spec(&definition);
            let is_skipped = spec.skips_whole_days(now(), now() + 366 * DAY);
            assert_eq!(is_skipped, first.is_none(), "case {case}: {first:?}: {definition}");
            // Going through it piece by piece first takes long.
            if case % 20 == 0 {
                assert_eq!(spec.never_comes(now()).is_some(), is_skipped, "case {case}: {definition}");
            }
            match first {
                Some(_) => comes += 1,
                None => never += 1,
            }
        }
        assert!(never > 40 && comes > 25, "{never} never, {comes} come");
    }

    #[test]
    fn a26_intervals_and_other_zones_are_refused_only_if_no_time_comes() {
        let whole = |high: i64| json!([{ "start": 0, "end": high }]);
        let half = |start: i64| json!([{ "start": start, "end": 59, "step": 2 }]);
        let minutes = |start: i64| json!({ "second": whole(59), "minute": half(start), "hour": whole(23) });
        let seconds = |start: i64| json!({ "second": half(start), "minute": whole(59), "hour": whole(23) });
        let minute_starts = json!({ "second": [{ "start": 0 }], "minute": whole(59), "hour": whole(23) });
        let says = |definition: Value| spec(&definition).never_comes(now()).is_some();
        for zone in ["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"] {
            for times in [
                json!({ "intervals": [{ "every": "PT1M" }] }),
                json!({ "intervals": [{ "every": "PT7M", "offset": "PT3M" }, { "every": "PT11M" }] }),
                json!({ "cron_expressions": ["CRON_TZ=America/New_York */2 * * * *", "* * * * *"] }),
                json!({ "cron_expressions": ["CRON_TZ=Australia/Lord_Howe * 3 * * MON"], "intervals": [{ "every": "PT2M" }] }),
            ] {
                let with = |skip: Value| {
                    let mut definition = times.clone();
                    (definition["time_zone_name"], definition["skip"]) = (zone.into(), skip);
                    definition
                };
                for never in [
                    json!([minutes(0), minutes(1)]),
                    json!([seconds(0), seconds(1)]),
                    json!([seconds(0)]),
                    json!([minute_starts]),
                ] {
                    assert!(says(with(never.clone())), "{zone} {times} {never}");
                }
                for comes in [json!([seconds(1)]), json!([minutes(0)]), json!([minutes(1)])] {
                    let definition = with(comes);
                    let first = spec(&definition).after(now());
                    assert_eq!(
                        !says(definition.clone()),
                        matches!(first, After::At(_)),
                        "{definition}: {first:?}"
                    );
                }
            }
        }
        // An interval of seconds comes to every second of the clock.
        assert!(!says(json!({ "intervals": [{ "every": "PT61S" }], "skip": [minute_starts] })));
        assert!(!says(
            json!({ "intervals": [{ "every": "PT1M", "offset": "PT1S" }], "skip": [minute_starts] })
        ));
    }

    #[test]
    fn a26_a_schedule_that_ends_or_begins_is_judged_by_the_time_between() {
        let half = |start: i64| json!([{ "start": start, "end": 59, "step": 2 }]);
        let whole = |high: i64| json!([{ "start": 0, "end": high }]);
        let minutes = |start: i64, months: Value| json!({ "second": whole(59), "minute": half(start), "hour": whole(23), "month": months });
        let until_october = json!([{ "start": 1, "end": 10 }]);
        let skip = json!([minutes(0, until_october.clone()), minutes(1, until_october)]);
        let says = |more: Value| {
            let mut definition = json!({ "cron_expressions": ["* * * * *"], "skip": skip });
            definition
                .as_object_mut()
                .expect("an object")
                .extend(more.as_object().expect("an object").clone());
            spec(&definition).never_comes(now())
        };
        assert_eq!(says(json!({})), None, "it comes in November");
        assert!(says(json!({ "end_at": "2026-10-31T23:59:59Z" })).is_some());
        assert_eq!(says(json!({ "end_at": "2026-11-01T00:00:00Z" })), None);
        assert_eq!(says(json!({ "start_at": "2029-01-01T00:00:00Z" })), None, "it comes in November as well");
        assert!(
            says(json!({ "start_at": "2027-01-01T00:00:00Z", "end_at": "2027-05-01T00:00:00Z" })).is_some()
        );
    }

    #[test]
    fn a26_the_most_that_a_definition_can_hold_is_judged_in_a_moment() {
        let whole = |high: i64| json!([{ "start": 0, "end": high }]);
        let skip: Vec<Value> = (0..100)
            .map(|n| {
                json!({ "second": whole(59), "minute": [{ "start": n % 2, "end": 59, "step": 2 }], "hour": whole(23),
                    "day_of_month": [{ "start": 1, "end": 31 - n / 4 }] })
            })
            .collect();
        let crons: Vec<String> = (0..100)
            .map(|n| {
                format!(
                    "CRON_TZ={} * * * * * *",
                    ["America/New_York", "Asia/Kathmandu", "Europe/Paris"][n % 3]
                )
            })
            .collect();
        let intervals = vec![json!({ "every": "PT1S" }); 100];
        let began = std::time::Instant::now();
        let definition = json!({ "cron_expressions": crons, "intervals": intervals, "skip": skip });
        assert!(spec(&definition).never_comes(now()).is_some());
        assert!(began.elapsed() < airlock_patience::LIMIT, "{:?}", began.elapsed());
    }
}
