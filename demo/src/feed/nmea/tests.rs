use super::*;
use crate::feed::craft::Position;

#[test]
fn a_checksum_is_the_exclusive_or_of_all_bytes_as_two_digits() {
    assert_eq!(checksum(""), 0);
    assert_eq!(checksum("A"), 0x41);
    assert_eq!(checksum("AB"), 0x03);
    assert_eq!(checksum("ABA"), 0x42);
    assert_eq!(sentence("AB"), "$AB*03\r\n");
    assert_eq!(sentence("J"), "$J*4A\r\n");
}

#[test]
fn angles_have_less_than_60_minutes_and_a_side() {
    let mut ship = Ship::new(1);
    let mut text = |lat, lon| {
        ship.craft.position = Position { lat, lon };
        ship.position()
    };
    assert_eq!(text(46.5, -5.25), "4630.0000,N,00515.0000,W");
    assert_eq!(text(-6.125, 105.0), "0607.5000,S,10500.0000,E");
    assert_eq!(text(0.0, -0.5), "0000.0000,N,00030.0000,W");
    assert_eq!(text(46.999_999_9, -9.999_999_9), "4659.9999,N,00959.9999,W");
}

#[test]
fn every_sentence_parses_back_to_the_state_of_the_ship_for_100_000_steps() {
    let mut ship = Ship::new(7);
    let mut clock = ship.clock.clone();
    for step in 0..100_000_u32 {
        let before = ship.craft.position;
        let mut line = Vec::new();
        ship.push_line(&mut line);
        clock.advance(Duration::from_secs(1));

        let text = String::from_utf8(line).unwrap();
        let fields = parse(&text);
        match step % 4 {
            0 => check_rmc(&fields, &ship, &clock),
            1 => check_gga(&fields, &ship, &clock),
            2 => check_vtg(&fields, &ship),
            _ => check_hdt(&fields, &ship),
        }
        let position = ship.craft.position;
        assert!(SEA.contains(position), "{step}: {position:?}");
        let knots = before.distance_nm(position) * 3600.0;
        assert!((7.9..=18.1).contains(&knots), "{step}: {knots}");
    }
}

#[test]
fn a_seed_gives_the_same_sentences_and_another_seed_other_ones() {
    let sentences = |seed| {
        let mut ship = Ship::new(seed);
        let mut lines = Vec::new();
        (0..1000).for_each(|_| ship.push_line(&mut lines));
        lines
    };
    assert_eq!(sentences(1), sentences(1));
    assert_ne!(sentences(1), sentences(2));
}

/// Checks the frame of a sentence, and returns its fields.
fn parse(text: &str) -> Vec<&str> {
    assert!(text.len() <= 82, "longer than the standard allows: {text:?}");
    let framed = text.strip_prefix('$').unwrap().strip_suffix("\r\n").unwrap();
    let (body, sum) = framed.split_once('*').unwrap();
    let mut expected = 0;
    for byte in body.as_bytes() {
        expected ^= byte;
    }
    assert_eq!(sum, format!("{expected:02X}"), "{text:?}");
    body.split(',').collect()
}

fn check_rmc(fields: &[&str], ship: &Ship, clock: &Clock) {
    let &[address, time, valid, _, _, _, _, speed, track, date, "", "", mode] = fields else {
        panic!("{fields:?}");
    };
    assert_eq!([address, valid, mode], ["GPRMC", "A", "A"]);
    check_position(&fields[3..7], ship);
    check_movement(track, speed, ship);
    let (expected_date, expected_time) = clock.date_and_time();
    let [day, month, year] = [&date[..2], &date[2..4], &date[4..]];
    assert_eq!(format!("20{year}-{month}-{day}"), expected_date);
    check_time(time, &expected_time);
}

fn check_gga(fields: &[&str], ship: &Ship, clock: &Clock) {
    let &[address, time, _, _, _, _, "1", satellites, dilution, height, "M", geoid, "M", "", ""] =
        fields
    else {
        panic!("{fields:?}");
    };
    assert_eq!([address, geoid], ["GPGGA", "48.0"]);
    check_position(&fields[2..6], ship);
    check_time(time, &clock.date_and_time().1);
    assert!((4..=12).contains(&satellites.parse().unwrap()), "{satellites}");
    assert_eq!(satellites.len(), 2);
    assert!((0.5..=2.0).contains(&number(dilution)), "{dilution}");
    assert!((number(height) - ship.antenna_m).abs() < 1.1, "{height}");
}

fn check_vtg(fields: &[&str], ship: &Ship) {
    let &["GPVTG", track, "T", "", "M", speed, "N", kmh, "K", "A"] = fields else {
        panic!("{fields:?}");
    };
    check_movement(track, speed, ship);
    assert!((number(kmh) / 1.852 - ship.craft.speed_kn).abs() < 0.05, "{kmh}");
}

fn check_hdt(fields: &[&str], ship: &Ship) {
    let &["HEHDT", heading, "T"] = fields else { panic!("{fields:?}") };
    assert!(number(heading) < 360.0, "{heading}");
    let drift = circle(number(heading) - ship.craft.track_deg + 180.0) - 180.0;
    assert!((drift - ship.drift_deg).abs() < 0.11, "{heading}: {drift}");
}

fn check_position(fields: &[&str], ship: &Ship) {
    let &[lat, north, lon, east] = fields else { panic!("{fields:?}") };
    let degrees = |text: &str, digits: usize, side: &str, sides: [&str; 2]| {
        assert_eq!(text.len(), digits + 7, "{text}");
        let minutes = number(&text[digits..]);
        assert!(minutes < 60.0, "{text}");
        let angle = number(&text[..digits]) + minutes / 60.0;
        if side == sides[0] { angle } else { -angle }
    };
    assert!(["N", "S"].contains(&north) && ["E", "W"].contains(&east), "{fields:?}");
    let parsed = Position {
        lat: degrees(lat, 2, north, ["N", "S"]),
        lon: degrees(lon, 3, east, ["E", "W"]),
    };
    // A tenth of a thousandth of a minute.
    let off = parsed.distance_nm(ship.craft.position);
    assert!(off < 1.5e-4, "{fields:?}: {off}");
}

fn check_movement(track: &str, speed: &str, ship: &Ship) {
    assert!(number(track) < 360.0, "{track}");
    assert!((number(track) - ship.craft.track_deg).abs() < 0.11, "{track}");
    assert!((number(speed) - ship.craft.speed_kn).abs() < 0.06, "{speed}");
}

fn check_time(time: &str, expected: &str) {
    let [hour, minute, second] = [&time[..2], &time[2..4], &time[4..]];
    assert_eq!(format!("{hour}:{minute}:{second}0"), expected);
}

fn number(text: &str) -> f64 {
    text.parse().unwrap_or_else(|_| panic!("{text:?}"))
}
