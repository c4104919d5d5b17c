//! The times of schedules against a calendar that shares nothing with them: jiff, walked second by second.
//!
//! A failure prints the seed of its specification; `AIRLOCK_SEED=N` runs that one alone.

use airlock_engine::schedule::{After, Definition, Spec};
use jiff::{
    Timestamp, civil,
    tz::{AmbiguousOffset, TimeZone},
};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};

const ZONES: &[&str] = &[
    "UTC",
    "Europe/Berlin",
    "America/New_York",
    "Australia/Lord_Howe",
    "Asia/Kolkata",
    "America/Sao_Paulo",
    "Europe/Dublin",
    "Pacific/Chatham",
    "America/St_Johns",
];

/// Seconds of the day, hour … that a pattern takes; the oracle's own form, written beside the wire form.
#[derive(Debug, Clone)]
struct Fields {
    second: Vec<bool>,
    minute: Vec<bool>,
    hour: Vec<bool>,
    day: Vec<bool>,
    month: Vec<bool>,
    weekday: Vec<bool>,
    years: Option<Vec<i16>>,
    /// Cron's rule: with both days restricted, one is enough.
    either_day: bool,
    zone: TimeZone,
}

impl Fields {
    fn matches(&self, at: civil::DateTime) -> bool {
        let day = self.day[at.day() as usize];
        let weekday = self.weekday[at.weekday().to_sunday_zero_offset() as usize];
        self.second[at.second() as usize]
            && self.minute[at.minute() as usize]
            && self.hour[at.hour() as usize]
            && self.month[at.month() as usize]
            && self.years.as_ref().is_none_or(|years| years.contains(&at.year()))
            && if self.either_day { day || weekday } else { day && weekday }
    }

    /// Whether it fires at this second: the clock shows a matching time, and shows it for the first time.
    fn fires(&self, second: i64) -> bool {
        let at = Timestamp::from_second(second).expect("in range").to_zoned(self.zone.clone()).datetime();
        self.matches(at)
            && match self.zone.to_ambiguous_zoned(at).offset() {
                AmbiguousOffset::Fold { before, .. } => {
                    before.to_timestamp(at).expect("in range").as_second() == second
                }
                _ => true,
            }
    }
}

/// Random values of a field: as a cron field, as wire ranges, and as the values they stand for.
fn field(random: &mut StdRng, low: usize, high: usize, wide: bool) -> (String, Value, Vec<bool>) {
    let mut taken = vec![false; high + 1];
    if random.random_bool(if wide { 0.6 } else { 0.15 }) {
        taken[low..].fill(true);
        return match random.random_range(0..3) {
            0 => (format!("{low}-{high}"), json!([{ "start": low, "end": high }]), taken),
            1 => ("*/1".into(), json!([{ "start": low, "end": high, "step": 1 }]), taken),
            _ => ("*".into(), json!([{ "start": low, "end": high, "step": 0 }]), taken),
        };
    }
    let (mut cron, mut wire) = (Vec::new(), Vec::new());
    for _ in 0..random.random_range(1..=3) {
        let start = random.random_range(low..=high);
        // On the wire an end of 0 stands for no end.
        let end = random.random_range(start..=high);
        let step = random.random_range(1..=(high - low) / 2 + 1);
        match random.random_range(0..3) {
            0 => {
                cron.push(start.to_string());
                wire.push(json!({ "start": start, "end": random.random_bool(0.5).then_some(0) }));
                taken[start] = true;
            }
            1 if end > start => {
                cron.push(format!("{start}-{end}"));
                wire.push(json!({ "start": start, "end": end }));
                taken[start..=end].fill(true);
            }
            // Cron libraries refuse a step that is wider than the range.
            _ if end > start && step <= end - start => {
                cron.push(format!("{start}-{end}/{step}"));
                wire.push(json!({ "start": start, "end": end, "step": step }));
                (start..=end).step_by(step).for_each(|value| taken[value] = true);
            }
            _ => {
                cron.push(start.to_string());
                wire.push(json!({ "start": start, "end": start, "step": step }));
                taken[start] = true;
            }
        }
    }
    (cron.join(","), wire.into(), taken)
}

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).expect("a zone")
}

/// A pattern as cron expression or calendar.
fn pattern(random: &mut StdRng, home: &str, year: i16, as_cron: bool) -> (Value, Fields) {
    let (second, seconds, second_values) = field(random, 0, 59, false);
    let (minute, minutes, minute_values) = field(random, 0, 59, false);
    let (hour, hours, hour_values) = field(random, 0, 23, true);
    let (day, days, day_values) = field(random, 1, 31, true);
    let (month, months, month_values) = field(random, 1, 12, true);
    let (weekday, weekdays, weekday_values) = field(random, 0, 6, true);
    let mut fields = Fields {
        second: second_values,
        minute: minute_values,
        hour: hour_values,
        day: day_values,
        month: month_values,
        weekday: weekday_values,
        years: None,
        either_day: false,
        zone: zone(home),
    };
    let only = |value: usize, size: usize| (0..=size).map(|i| i == value).collect::<Vec<bool>>();
    if as_cron {
        fields.either_day = day != "*" && weekday != "*";
        let own_zone = random.random_bool(0.2).then(|| *ZONES.choose(random).expect("zones"));
        let prefix = own_zone.map_or_else(String::new, |name| {
            fields.zone = zone(name);
            format!("CRON_TZ={name} ")
        });
        let text = match random.random_range(0..3) {
            0 => {
                fields.second = only(0, 59);
                format!("{prefix}{minute} {hour} {day} {month} {weekday}")
            }
            1 => format!("{prefix}{second} {minute} {hour} {day} {month} {weekday}"),
            _ => {
                fields.years = Some(vec![year, year + 1]);
                format!("{prefix}{second} {minute} {hour} {day} {month} {weekday} {year}-{}", year + 1)
            }
        };
        return (text.into(), fields);
    }
    let mut calendar = json!({ "comment": "random" });
    let mut put = |name: &str, wire: Value, values: &mut Vec<bool>, default: Vec<bool>| {
        if random.random_bool(0.75) {
            calendar[name] = wire;
        } else {
            *values = default;
        }
    };
    put("second", seconds, &mut fields.second, only(0, 59));
    put("minute", minutes, &mut fields.minute, only(0, 59));
    put("hour", hours, &mut fields.hour, only(0, 23));
    put("day_of_month", days, &mut fields.day, vec![true; 32]);
    put("month", months, &mut fields.month, vec![true; 13]);
    put("day_of_week", weekdays, &mut fields.weekday, vec![true; 7]);
    if random.random_bool(0.2) {
        calendar["year"] = json!([{ "start": year, "end": year + 3, "step": 3 }]);
        fields.years = Some(vec![year, year + 3]);
    }
    (calendar, fields)
}

/// A moment near which the walk begins: often one at which clocks change.
fn beginning(random: &mut StdRng, home: &TimeZone, year: i16) -> i64 {
    let start = civil::date(year, 1, 1).at(0, 0, 0, 0).to_zoned(TimeZone::UTC).expect("in range").timestamp();
    let anywhere = start.as_second() + random.random_range(0..365 * 86_400);
    let changes: Vec<i64> = home
        .following(start)
        .take_while(|change| change.timestamp().as_second() < start.as_second() + 366 * 86_400)
        .map(|change| change.timestamp().as_second())
        .collect();
    match changes.choose(random) {
        Some(change) if random.random_bool(0.7) => change - random.random_range(0..7_200),
        _ => anywhere,
    }
}

fn check(seed: u64) -> (usize, usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let home = *ZONES.choose(&mut random).expect("zones");
    let year: i16 = random.random_range(2015..2040);
    let home_zone = zone(home);
    let begin = beginning(&mut random, &home_zone, year);
    let length = random.random_range(3_600..4 * 3_600i64);
    let mut definition = json!({ "input": null, "time_zone_name": home });
    let mut sources = Vec::new();
    for _ in 0..random.random_range(0..=2) {
        let (wire, fields) = pattern(&mut random, home, year, true);
        sources.push(fields);
        push(&mut definition, "cron_expressions", wire);
    }
    for _ in 0..random.random_range(0..=2) {
        let (wire, fields) = pattern(&mut random, home, year, false);
        sources.push(fields);
        push(&mut definition, "calendars", wire);
    }
    let mut intervals = Vec::new();
    for _ in 0..random.random_range(if sources.is_empty() { 1..=1 } else { 0..=1 }) {
        let every: i64 = *[1, 7, 60, 90, 3_600, 5_000].choose(&mut random).expect("lengths");
        let offset = random.random_range(0..every);
        intervals.push((every, offset));
        push(
            &mut definition,
            "intervals",
            json!({ "every": format!("PT{every}S"), "offset": format!("PT{offset}S") }),
        );
    }
    let mut skips = Vec::new();
    for _ in 0..random.random_range(0..=2) {
        let (wire, fields) = pattern(&mut random, home, year, false);
        skips.push(fields);
        push(&mut definition, "skip", wire);
    }
    let (mut first, mut last) = (i64::MIN, i64::MAX);
    let text = |second: i64| Timestamp::from_second(second).expect("in range").to_string();
    if random.random_bool(0.2) {
        first = begin + random.random_range(0..length);
        definition["start_at"] = text(first).into();
    }
    if random.random_bool(0.2) {
        last = first.max(begin) + random.random_range(0..length);
        definition["end_at"] = text(last).into();
    }
    let read = Definition::read(&serde_json::from_str(&definition.to_string()).expect("an object"))
        .unwrap_or_else(|problem| panic!("seed {seed}: {problem:?}"));
    let spec = match Spec::new(&read) {
        Ok(spec) => spec,
        // Such as the 31st of February.
        Err(problems) if problems.iter().all(|problem| problem.message.contains("never comes")) => {
            return (0, 1);
        }
        Err(problems) => panic!("seed {seed}: {problems:?}\n{definition}"),
    };
    let mut expected = Vec::new();
    for second in begin + 1..=begin + length {
        let fires = (first..=last).contains(&second)
            && (intervals.iter().any(|(every, offset)| (second - offset).rem_euclid(*every) == 0)
                || sources.iter().any(|source| source.fires(second)));
        if fires {
            let at = Timestamp::from_second(second).expect("in range").to_zoned(home_zone.clone()).datetime();
            if !skips.iter().any(|skip| skip.matches(at)) {
                expected.push(second);
            }
        }
    }
    let (mut found, mut cursor) = (Vec::new(), begin);
    loop {
        match spec.after(cursor) {
            After::At(time) if time <= begin + length => {
                found.push(time);
                cursor = time;
            }
            After::NothingUntil(time) if time < begin + length => cursor = time,
            _ => break,
        }
    }
    if expected != found {
        let difference = (0..).find(|&i| expected.get(i) != found.get(i)).expect("they differ");
        let show = |times: &[i64]| times.get(difference).map(|&time| text(time));
        panic!(
            "seed {seed}: from {} on, time {difference} is {:?}, expected {:?}\n{definition:#}",
            text(begin),
            show(&found),
            show(&expected)
        );
    }
    (found.len(), 0)
}

fn push(definition: &mut Value, list: &str, entry: Value) {
    match definition[list].as_array_mut() {
        Some(entries) => entries.push(entry),
        None => definition[list] = json!([entry]),
    }
}

#[test]
fn random_schedules_fire_when_another_calendar_says_so() {
    if let Ok(seed) = std::env::var("AIRLOCK_SEED") {
        check(seed.parse().expect("a number"));
        return;
    }
    let base: u64 = rand::random::<u32>().into();
    let specs = 2_000;
    let (mut times, mut impossible) = (0, 0);
    for seed in base..base + specs {
        let (found, refused) = check(seed);
        times += found;
        impossible += refused;
    }
    println!("{specs} schedules from seed {base}: {times} times, {impossible} that never come");
    assert!(times > 100_000, "too few times were compared: {times}");
    assert!(impossible < specs as usize / 20, "too many were not compared: {impossible}");
}
