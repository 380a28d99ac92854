//! Moves made-up ships and aircraft from waypoint to waypoint.

use rand::{Rng, RngExt};

/// A point in degrees; north and east are positive.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Position {
    pub(super) lat: f64,
    pub(super) lon: f64,
}

/// The area that a craft stays in. It contains no pole and does not cross the date line, so plane geometry
/// is close enough.
#[derive(Clone, Copy, Debug)]
pub(super) struct Area {
    pub(super) south: f64,
    pub(super) north: f64,
    pub(super) west: f64,
    pub(super) east: f64,
}

/// The abilities of a craft.
#[derive(Debug)]
pub(super) struct Abilities {
    pub(super) slowest_kn: f64,
    pub(super) fastest_kn: f64,
    pub(super) acceleration_kn_per_s: f64,
    pub(super) turn_deg_per_s: f64,
    /// The distance from a waypoint at which it counts as reached. It is greater than the radius of the
    /// tightest circle at full speed. Otherwise a craft could circle around a waypoint without end.
    pub(super) arrival_nm: f64,
    /// The distance of waypoints from the edge of the area, in degrees. It leaves space for the circle in
    /// which a craft turns.
    pub(super) margin_deg: f64,
}

/// A craft on its way. It turns and changes its speed gradually.
#[derive(Clone)]
pub(super) struct Craft {
    abilities: &'static Abilities,
    area: Area,
    pub(super) position: Position,
    /// The direction of movement over ground, at least 0 and less than 360, clockwise from north.
    pub(super) track_deg: f64,
    pub(super) speed_kn: f64,
    waypoint: Position,
    /// The speed for the current leg.
    cruise_kn: f64,
}

const NM_PER_DEG: f64 = 60.0;
const SECONDS_PER_HOUR: f64 = 3600.0;

impl Craft {
    /// Returns a craft at a random point of its area, in movement toward a random waypoint.
    pub(super) fn new(abilities: &'static Abilities, area: Area, rng: &mut impl Rng) -> Craft {
        let position = area.waypoint(abilities.margin_deg, rng);
        let waypoint = area.waypoint(abilities.margin_deg, rng);
        let cruise_kn = rng.random_range(abilities.slowest_kn..=abilities.fastest_kn);
        let track_deg = position.bearing_deg(waypoint);
        Craft { abilities, area, position, track_deg, speed_kn: cruise_kn, waypoint, cruise_kn }
    }

    /// Moves on for `seconds`. Returns whether a waypoint was reached and a new leg begins.
    pub(super) fn advance(&mut self, seconds: f64, rng: &mut impl Rng) -> bool {
        let arrived = self.position.distance_nm(self.waypoint) < self.abilities.arrival_nm;
        if arrived {
            self.waypoint = self.area.waypoint(self.abilities.margin_deg, rng);
            self.cruise_kn =
                rng.random_range(self.abilities.slowest_kn..=self.abilities.fastest_kn);
        }
        let turn = self.abilities.turn_deg_per_s * seconds;
        // Between -180 and 180: the shorter way round.
        let off_course = (self.position.bearing_deg(self.waypoint) - self.track_deg + 180.0)
            .rem_euclid(360.0)
            - 180.0;
        self.track_deg = circle(self.track_deg + off_course.clamp(-turn, turn));
        let change = self.abilities.acceleration_kn_per_s * seconds;
        self.speed_kn += (self.cruise_kn - self.speed_kn).clamp(-change, change);
        self.position =
            self.position.moved(self.track_deg, self.speed_kn * seconds / SECONDS_PER_HOUR);
        arrived
    }

    #[cfg(test)]
    pub(super) fn area(&self) -> Area {
        self.area
    }
}

impl Area {
    /// Returns a random point, at least `margin_deg` from each edge.
    pub(super) fn waypoint(&self, margin_deg: f64, rng: &mut impl Rng) -> Position {
        Position {
            lat: rng.random_range(self.south + margin_deg..=self.north - margin_deg),
            lon: rng.random_range(self.west + margin_deg..=self.east - margin_deg),
        }
    }

    #[cfg(test)]
    pub(super) fn contains(&self, position: Position) -> bool {
        (self.south..=self.north).contains(&position.lat)
            && (self.west..=self.east).contains(&position.lon)
    }
}

impl Position {
    fn moved(self, track_deg: f64, distance_nm: f64) -> Position {
        let track = track_deg.to_radians();
        let north_deg = distance_nm * track.cos() / NM_PER_DEG;
        let east_deg = distance_nm * track.sin() / NM_PER_DEG / self.lat.to_radians().cos();
        Position { lat: self.lat + north_deg, lon: self.lon + east_deg }
    }

    /// Returns the distances to `to`, north and east.
    fn offset_nm(self, to: Position) -> (f64, f64) {
        let north = (to.lat - self.lat) * NM_PER_DEG;
        let east = (to.lon - self.lon) * NM_PER_DEG * self.lat.to_radians().cos();
        (north, east)
    }

    pub(super) fn distance_nm(self, to: Position) -> f64 {
        let (north, east) = self.offset_nm(to);
        north.hypot(east)
    }

    fn bearing_deg(self, to: Position) -> f64 {
        let (north, east) = self.offset_nm(to);
        circle(east.atan2(north).to_degrees())
    }
}

/// Returns the same direction as at least 0 and less than 360 degrees.
pub(super) fn circle(deg: f64) -> f64 {
    let deg = deg.rem_euclid(360.0);
    // The remainder of a tiny negative number is rounded to 360.
    if deg < 360.0 { deg } else { 0.0 }
}

/// Cuts digits off: `0.05` is 0.0 with one decimal. A minute less than 60 and a direction less than 360 stay
/// so, which rounding does not guarantee.
pub(super) fn cut(value: f64, decimals: i32) -> f64 {
    let scale = 10_f64.powi(decimals);
    (value * scale).floor() / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::Xoshiro256PlusPlus;

    const ABILITIES: Abilities = Abilities {
        slowest_kn: 10.0,
        fastest_kn: 20.0,
        acceleration_kn_per_s: 0.1,
        turn_deg_per_s: 1.0,
        arrival_nm: 0.5,
        margin_deg: 0.1,
    };
    const AREA: Area = Area { south: -0.5, north: 0.5, west: -0.5, east: 0.5 };

    #[test]
    fn it_reaches_waypoints_without_a_sudden_turn_or_change_of_speed() {
        let mut rng = Xoshiro256PlusPlus::seed_from_u64(1);
        let mut craft = Craft::new(&ABILITIES, AREA, &mut rng);
        let mut legs = 0;
        for step in 0..100_000 {
            let before = craft.clone();
            legs += u32::from(craft.advance(1.0, &mut rng));
            assert!(AREA.contains(craft.position), "{step}: {:?}", craft.position);
            assert!((0.0..360.0).contains(&craft.track_deg), "{step}: {}", craft.track_deg);
            let turn = circle(craft.track_deg - before.track_deg + 180.0) - 180.0;
            assert!(turn.abs() < 1.0 + 1e-9, "{step}: {turn}");
            assert!((craft.speed_kn - before.speed_kn).abs() < 0.1 + 1e-9, "{step}");
            assert!((10.0..=20.0).contains(&craft.speed_kn), "{step}: {}", craft.speed_kn);
            let moved = before.position.distance_nm(craft.position);
            assert!((moved - craft.speed_kn / 3600.0).abs() < 1e-6, "{step}: {moved}");
        }
        // About 400 nautical miles in legs of about 30.
        assert!(legs >= 5, "{legs}");
    }

    #[test]
    fn bearings_are_clockwise_from_north() {
        let center = Position { lat: 60.0, lon: 0.0 };
        for (lat, lon, expected) in
            [(61.0, 0.0, 0.0), (60.0, 1.0, 90.0), (59.0, 0.0, 180.0), (60.0, -1.0, 270.0)]
        {
            let bearing = center.bearing_deg(Position { lat, lon });
            assert!((bearing - expected).abs() < 1e-9, "{bearing}, not {expected}");
        }
        let east = center.moved(90.0, 30.0);
        assert!((east.lon - 1.0).abs() < 1e-9, "half a degree of the equator: {east:?}");
    }

    #[test]
    fn a_direction_just_below_north_is_less_than_360_also_as_text() {
        assert!(circle(-1e-20) < 360.0);
        assert_eq!(format!("{:.1}", cut(359.99, 1)), "359.9");
        assert_eq!(format!("{:07.4}", cut(59.999_99, 4)), "59.9999");
    }
}
