//! Makes the NMEA 0183 sentences of a made-up ship.

use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};

use super::clock::Clock;
use super::craft::{Abilities, Area, Craft, circle, cut};

/// A made-up ship. It sends four kinds of sentences in turn: `GPRMC`, `GPGGA`, `GPVTG` and `HEHDT`. A second
/// passes with each sentence, so a sentence each second keeps pace with the time of the system.
#[derive(Clone)]
pub(super) struct Ship {
    rng: Xoshiro256PlusPlus,
    clock: Clock,
    craft: Craft,
    /// The angle from the course over ground to the heading, which wind and current cause.
    drift_deg: f64,
    antenna_m: f64,
    next: Sentence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sentence {
    Rmc,
    Gga,
    Vtg,
    Hdt,
}

/// A part of the Bay of Biscay without land.
const SEA: Area = Area { south: 44.5, north: 47.0, west: -8.0, east: -3.0 };

/// A cargo ship. At full speed its tightest circle has a radius of 0.57 nautical miles.
const CARGO_SHIP: Abilities = Abilities {
    slowest_kn: 8.0,
    fastest_kn: 18.0,
    acceleration_kn_per_s: 0.02,
    turn_deg_per_s: 0.5,
    arrival_nm: 1.0,
    margin_deg: 0.1,
};

/// The time from one sentence to the next.
const STEP: Duration = Duration::from_secs(1);

/// The height of the geoid above the ellipsoid in the Bay of Biscay.
const GEOID_M: f64 = 48.0;

const KMH_PER_KN: f64 = 1.852;

impl Ship {
    pub(super) fn new(seed: u64) -> Ship {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(seed);
        Ship {
            clock: Clock::new(&mut rng),
            craft: Craft::new(&CARGO_SHIP, SEA, &mut rng),
            drift_deg: rng.random_range(-4.0..=4.0),
            antenna_m: rng.random_range(15.0..=40.0),
            next: Sentence::Rmc,
            rng,
        }
    }

    /// Appends the next sentence.
    pub(super) fn push_line(&mut self, lines: &mut Vec<u8>) {
        self.clock.advance(STEP);
        self.craft.advance(STEP.as_secs_f64(), &mut self.rng);
        let body = match self.next {
            Sentence::Rmc => self.position_and_movement(),
            Sentence::Gga => self.fix(),
            Sentence::Vtg => self.movement(),
            Sentence::Hdt => self.heading(),
        };
        self.next = match self.next {
            Sentence::Rmc => Sentence::Gga,
            Sentence::Gga => Sentence::Vtg,
            Sentence::Vtg => Sentence::Hdt,
            Sentence::Hdt => Sentence::Rmc,
        };
        lines.extend_from_slice(sentence(&body).as_bytes());
    }

    fn position_and_movement(&self) -> String {
        let (date, time) = self.clock.date_and_time();
        let (day, month, year) = (&date[8..10], &date[5..7], &date[2..4]);
        let track = cut(self.craft.track_deg, 1);
        let speed = self.craft.speed_kn;
        // The two empty fields are the magnetic variation. The last one says how the position was found:
        // `A` for autonomous.
        format!(
            "GPRMC,{},A,{},{speed:.1},{track:.1},{day}{month}{year},,,A",
            time_of_day(&time),
            self.position(),
        )
    }

    fn fix(&mut self) -> String {
        let (_, time) = self.clock.date_and_time();
        let satellites: u8 = self.rng.random_range(7..=12);
        let dilution = self.rng.random_range(0.7..=1.4);
        let height_m = self.antenna_m + self.rng.random_range(-1.0..=1.0);
        // The fix is that of GPS alone, 1. So the age and the station of a correction are empty.
        format!(
            "GPGGA,{},{},1,{satellites:02},{dilution:.1},{height_m:.1},M,{GEOID_M:.1},M,,",
            time_of_day(&time),
            self.position(),
        )
    }

    fn movement(&self) -> String {
        let track = cut(self.craft.track_deg, 1);
        let speed = self.craft.speed_kn;
        format!("GPVTG,{track:.1},T,,M,{speed:.1},N,{:.1},K,A", speed * KMH_PER_KN)
    }

    fn heading(&self) -> String {
        let heading = cut(circle(self.craft.track_deg + self.drift_deg), 1);
        format!("HEHDT,{heading:.1},T")
    }

    /// Returns latitude and longitude as four fields.
    fn position(&self) -> String {
        let position = self.craft.position;
        let north = if position.lat < 0.0 { 'S' } else { 'N' };
        let east = if position.lon < 0.0 { 'W' } else { 'E' };
        let (lat_deg, lat_min) = degrees_and_minutes(position.lat);
        let (lon_deg, lon_min) = degrees_and_minutes(position.lon);
        format!("{lat_deg:02.0}{lat_min:07.4},{north},{lon_deg:03.0}{lon_min:07.4},{east}")
    }
}

/// Frames the text of a sentence.
fn sentence(body: &str) -> String {
    format!("${body}*{:02X}\r\n", checksum(body))
}

/// Returns the exclusive or of all bytes between `$` and `*`.
fn checksum(body: &str) -> u8 {
    body.bytes().fold(0, |sum, byte| sum ^ byte)
}

/// Returns the size of an angle as whole degrees, and minutes less than 60 with four decimals.
fn degrees_and_minutes(angle_deg: f64) -> (f64, f64) {
    let angle_deg = angle_deg.abs();
    (angle_deg.trunc(), cut(angle_deg.fract() * 60.0, 4))
}

/// Returns `23:59:59.999` as `235959.99`.
fn time_of_day(time: &str) -> String {
    time[..11].replace(':', "")
}

#[cfg(test)]
mod tests;
