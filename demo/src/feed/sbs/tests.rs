use super::*;
use std::collections::HashSet;

#[test]
fn every_message_parses_back_to_the_state_of_its_aircraft_for_100_000_steps() {
    let mut sky = Sky::new(7);
    let mut seen = HashSet::new();
    let mut last_times = (String::new(), String::new());
    for step in 0..100_000 {
        let mut line = Vec::new();
        sky.push_line(&mut line);
        let text = String::from_utf8(line).unwrap();
        let message = text.strip_suffix("\r\n").unwrap_or_else(|| panic!("{text:?}"));
        let fields: Vec<&str> = message.split(',').collect();
        let fields: [&str; 22] = fields.try_into().unwrap_or_else(|_| panic!("{text:?}"));
        let hex = u32::from_str_radix(fields[4], 16).unwrap();
        let aircraft = sky.aircraft.iter().find(|aircraft| aircraft.hex == hex).unwrap();
        check(&fields, aircraft);
        check_in_bounds(aircraft, step);

        let generated = format!("{} {}", fields[6], fields[7]);
        let logged = format!("{} {}", fields[8], fields[9]);
        let (date, time) = date_and_time(&sky.clock);
        assert_eq!(generated, format!("{date} {time}"));
        assert!(generated < logged, "{text:?}");
        assert!(last_times.0 < generated && last_times.1 < logged, "{last_times:?}: {text:?}");
        last_times = (generated, logged);
        seen.insert((hex, fields[1].to_owned()));
    }
    assert_eq!(seen.len(), AIRCRAFT * 7, "each aircraft sends each type: {seen:?}");
}

#[test]
fn aircraft_move_gradually_climb_descend_and_stay_in_reach_for_100_000_steps() {
    let mut sky = Sky::new(8);
    let (mut climbs, mut descents) = (0, 0);
    for step in 0..100_000 {
        let before: Vec<(Position, f64)> =
            sky.aircraft.iter().map(|one| (one.craft.position, one.altitude_ft)).collect();
        sky.push_line(&mut Vec::new());
        for ((position, altitude_ft), now) in before.into_iter().zip(&sky.aircraft) {
            check_in_bounds(now, step);
            // At most 1.5 seconds at 480 knots and at 1536 feet a minute.
            let moved_nm = position.distance_nm(now.craft.position);
            assert!((0.04..=0.2001).contains(&moved_nm), "{step}: {moved_nm}");
            let climbed_ft = now.altitude_ft - altitude_ft;
            assert!(climbed_ft.abs() <= 38.41, "{step}: {climbed_ft}");
            if now.vertical_rate_fpm != 0.0 {
                assert_eq!(now.vertical_rate_fpm.signum(), climbed_ft.signum(), "{step}");
            }
            // The first climb or descent lasts at most 32,000 feet, or 1,250 steps of a second.
            if step >= 10_000 {
                climbs += u32::from(now.vertical_rate_fpm > 0.0);
                descents += u32::from(now.vertical_rate_fpm < 0.0);
            }
        }
    }
    assert!(climbs > 1000 && descents > 1000, "{climbs} {descents}");
}

#[test]
fn a_seed_gives_the_same_messages_and_another_seed_other_ones() {
    let messages = |seed| {
        let mut sky = Sky::new(seed);
        let mut lines = Vec::new();
        (0..1000).for_each(|_| sky.push_line(&mut lines));
        lines
    };
    assert_eq!(messages(1), messages(1));
    assert_ne!(messages(1), messages(2));
}

#[test]
fn the_aircraft_of_a_sky_differ_in_all_that_names_them() {
    for seed in 0..1000 {
        let sky = Sky::new(seed);
        let different = |name: fn(&Aircraft) -> String| {
            let names: HashSet<String> = sky.aircraft.iter().map(name).collect();
            assert_eq!(names.len(), AIRCRAFT, "{seed}: {names:?}");
        };
        different(|aircraft| aircraft.hex.to_string());
        different(|aircraft| aircraft.callsign.clone());
        different(|aircraft| aircraft.id.to_string());
        for aircraft in &sky.aircraft {
            let last_digit = usize::try_from(aircraft.hex % 16).unwrap();
            assert_eq!(last_digit, aircraft.id, "{seed}: no two can be equal by chance");
            assert!(aircraft.hex < 1 << 24 && aircraft.callsign.len() <= 8, "{seed}");
            assert!(!aircraft.squawk.starts_with('7') && aircraft.squawk.len() == 4, "{seed}");
            assert!(aircraft.squawk.bytes().all(|digit| (b'0'..=b'7').contains(&digit)), "{seed}");
        }
    }
}

fn check_in_bounds(aircraft: &Aircraft, step: u32) {
    let position = aircraft.craft.position;
    assert!(aircraft.craft.area().contains(position), "{step}: {position:?}");
    assert!((LOWEST_FT..=HIGHEST_FT).contains(&aircraft.altitude_ft), "{step}");
    assert!((319.9..=480.1).contains(&aircraft.craft.speed_kn), "{step}");
}

/// Compares all fields but the times with the aircraft.
fn check(fields: &[&str; 22], aircraft: &Aircraft) {
    let id = aircraft.id.to_string();
    let hex = format!("{:06X}", aircraft.hex);
    let transmission: u8 = fields[1].parse().unwrap();
    assert_eq!(
        [fields[0], fields[2], fields[3], fields[4], fields[5]],
        ["MSG", "1", &id, &hex, &id]
    );

    // The indices of the fields after the times that each type has, from 10 for the callsign.
    let present: &[usize] = match transmission {
        1 => &[10],
        3 => &[11, 14, 15, 18, 19, 20, 21],
        4 => &[12, 13, 16],
        5 => &[11, 18, 20, 21],
        6 => &[11, 17, 18, 19, 20, 21],
        7 => &[11, 21],
        8 => &[21],
        _ => panic!("{fields:?}"),
    };
    for (index, field) in fields.iter().enumerate().skip(10) {
        assert_eq!(!field.is_empty(), present.contains(&index), "{index} of {fields:?}");
        if field.is_empty() {
            continue;
        }
        let near = |expected: f64, off: f64| {
            let value: f64 = field.parse().unwrap_or_else(|_| panic!("{index} of {fields:?}"));
            assert!((value - expected).abs() <= off, "{index} of {fields:?}: {expected}");
        };
        match index {
            10 => assert_eq!(*field, aircraft.callsign),
            11 => near(aircraft.altitude_ft, 12.5),
            12 => near(aircraft.craft.speed_kn, 0.051),
            13 => near(aircraft.craft.track_deg, 0.101),
            14 => near(aircraft.craft.position.lat, 0.000_005_1),
            15 => near(aircraft.craft.position.lon, 0.000_005_1),
            16 => near(aircraft.vertical_rate_fpm, 0.0),
            17 => assert_eq!(*field, aircraft.squawk),
            _ => assert_eq!(*field, "0"),
        }
    }
    if transmission == 3 {
        assert!(fields[11].parse::<u32>().unwrap().is_multiple_of(25), "{fields:?}");
    }
}
