//! Makes the messages of made-up aircraft in the format of a BaseStation (SBS-1), as its port 30003 sends
//! them.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, RngExt, SeedableRng};

use super::clock::Clock;
use super::craft::{Abilities, Area, Craft, Position, cut};

/// The made-up aircraft around a receiver. About a second passes with each message, so a message each second
/// keeps pace with the time of the system.
#[derive(Clone)]
pub(super) struct Sky {
    rng: Xoshiro256PlusPlus,
    clock: Clock,
    aircraft: Vec<Aircraft>,
}

#[derive(Clone)]
struct Aircraft {
    /// The number in the database of the receiver, counted from 1.
    id: usize,
    /// The address of 24 bits.
    hex: u32,
    callsign: String,
    /// Four octal digits.
    squawk: String,
    craft: Craft,
    altitude_ft: f64,
    /// The altitude for the current leg.
    cruise_ft: f64,
    /// The rate of a climb or descent. It is 0 as soon as the altitude is reached.
    vertical_rate_fpm: f64,
}

const AIRCRAFT: usize = 8;

/// The possible places of receivers.
const RECEIVERS: Area = Area { south: 46.0, north: 54.0, west: 2.0, east: 18.0 };

/// The reach of a receiver in each direction, in degrees.
const REACH_NORTH_DEG: f64 = 1.5;
const REACH_EAST_DEG: f64 = 2.5;

/// An airliner. At full speed its tightest circle has a radius of 5.1 nautical miles.
const AIRLINER: Abilities = Abilities {
    slowest_kn: 320.0,
    fastest_kn: 480.0,
    acceleration_kn_per_s: 0.5,
    turn_deg_per_s: 1.5,
    arrival_nm: 10.0,
    margin_deg: 0.4,
};

const LOWEST_FT: f64 = 8_000.0;
const HIGHEST_FT: f64 = 40_000.0;

/// The unit in which a transponder reports its altitude.
const ALTITUDE_UNIT_FT: f64 = 25.0;

/// The rate of a climb or descent, a multiple of 64 as transponders report it.
const CLIMB_FPM: f64 = 1_536.0;

/// The types of messages. Each is as frequent as here: most are positions, 3, and velocities, 4.
const TRANSMISSIONS: [u8; 16] = [1, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4, 5, 5, 6, 7, 8];

/// The time from one message to the next.
const STEP_MS: RangeInclusive<u64> = 500..=1500;

/// The time from the receipt of a message to its entry in the receiver's log. It is shorter than a step, so
/// both times advance with each message.
const LOGGED_AFTER_MS: RangeInclusive<u64> = 1..=300;

impl Sky {
    pub(super) fn new(seed: u64) -> Sky {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        let clock = Clock::new(&mut rng);
        let receiver = RECEIVERS.waypoint(0.0, &mut rng);
        let area = within_reach(receiver);
        let aircraft = (1..=AIRCRAFT).map(|id| Aircraft::new(id, area, &mut rng)).collect();
        Sky { rng, clock, aircraft }
    }

    /// Appends the next message. Each is of a random aircraft and type.
    pub(super) fn push_line(&mut self, lines: &mut Vec<u8>) {
        let step = Duration::from_millis(self.rng.random_range(STEP_MS));
        self.clock.advance(step);
        for aircraft in &mut self.aircraft {
            aircraft.advance(step.as_secs_f64(), &mut self.rng);
        }
        let logged_after = Duration::from_millis(self.rng.random_range(LOGGED_AFTER_MS));
        let logged = self.clock.later(logged_after);
        let transmission = TRANSMISSIONS[self.rng.random_range(0..TRANSMISSIONS.len())];
        let aircraft = &self.aircraft[self.rng.random_range(0..self.aircraft.len())];
        let message = aircraft.message(transmission, &self.clock, &logged);
        lines.extend_from_slice(message.as_bytes());
    }
}

impl Aircraft {
    fn new(id: usize, area: Area, rng: &mut impl Rng) -> Aircraft {
        Aircraft {
            id,
            // The last digit differs between the aircraft of a receiver.
            hex: (rng.random_range(0..1 << 20) << 4) | u32::try_from(id).expect("ids are small"),
            callsign: format!("DEMO{id}{:02}", rng.random_range(0..100)),
            // The first digit is at most 6, because 7500, 7600 and 7700 are emergencies.
            squawk: format!("{:04o}", rng.random_range(0o1000..=0o6777)),
            craft: Craft::new(&AIRLINER, area, rng),
            altitude_ft: altitude(rng),
            cruise_ft: altitude(rng),
            vertical_rate_fpm: 0.0,
        }
    }

    /// Flies on for `seconds`. Each leg has an altitude of its own.
    fn advance(&mut self, seconds: f64, rng: &mut impl Rng) {
        if self.craft.advance(seconds, rng) {
            self.cruise_ft = altitude(rng);
        }
        let left_ft = self.cruise_ft - self.altitude_ft;
        let climb_ft = CLIMB_FPM / 60.0 * seconds;
        self.altitude_ft += left_ft.clamp(-climb_ft, climb_ft);
        let is_there = left_ft.abs() <= climb_ft;
        self.vertical_rate_fpm = if is_there { 0.0 } else { CLIMB_FPM.copysign(left_ft) };
    }

    /// Returns a message of 22 fields. Each field is empty in the types of messages that do not have it.
    fn message(&self, transmission: u8, generated: &Clock, logged: &Clock) -> String {
        let has = |transmissions: &[u8], value: &dyn Display| {
            if transmissions.contains(&transmission) { value.to_string() } else { String::new() }
        };
        let (generated_date, generated_time) = date_and_time(generated);
        let (logged_date, logged_time) = date_and_time(logged);
        let Position { lat, lon } = self.craft.position;
        let altitude_ft = (self.altitude_ft / ALTITUDE_UNIT_FT).round() * ALTITUDE_UNIT_FT;
        let fields: [String; 22] = [
            "MSG".to_owned(),
            transmission.to_string(),
            // The session.
            "1".to_owned(),
            self.id.to_string(),
            format!("{:06X}", self.hex),
            // The flight. Each aircraft has only one.
            self.id.to_string(),
            generated_date,
            generated_time,
            logged_date,
            logged_time,
            has(&[1], &self.callsign),
            has(&[3, 5, 6, 7], &altitude_ft),
            has(&[4], &format_args!("{:.1}", self.craft.speed_kn)),
            has(&[4], &format_args!("{:.1}", cut(self.craft.track_deg, 1))),
            has(&[3], &format_args!("{lat:.5}")),
            has(&[3], &format_args!("{lon:.5}")),
            has(&[4], &self.vertical_rate_fpm),
            has(&[6], &self.squawk),
            // Flags: alert, emergency, identification, on ground. None is ever set.
            has(&[3, 5, 6], &0),
            has(&[3, 6], &0),
            has(&[3, 5, 6], &0),
            has(&[3, 5, 6, 7, 8], &0),
        ];
        fields.join(",") + "\r\n"
    }
}

/// Returns a random altitude, in whole thousands of feet.
fn altitude(rng: &mut impl Rng) -> f64 {
    (rng.random_range(LOWEST_FT..=HIGHEST_FT) / 1000.0).round() * 1000.0
}

fn within_reach(receiver: Position) -> Area {
    Area {
        south: receiver.lat - REACH_NORTH_DEG,
        north: receiver.lat + REACH_NORTH_DEG,
        west: receiver.lon - REACH_EAST_DEG,
        east: receiver.lon + REACH_EAST_DEG,
    }
}

/// Returns the date as `2026/12/31`, and the time as `23:59:59.999`.
fn date_and_time(clock: &Clock) -> (String, String) {
    let (date, time) = clock.date_and_time();
    (date.replace('-', "/"), time)
}

#[cfg(test)]
mod tests;
