//! Generates the lines that the servers send.

use std::fmt;

/// A kind of lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Numbers from 1 to 666, evenly distributed.
    Short,
    /// The same numbers one after the other, which makes lengths easy to predict.
    Counting,
    /// Numbers of 18 digits.
    Long,
    /// Numbers of 1 to 18 digits, each length as often as any other.
    Mixed,
    /// Numbers from 1 to 666, each followed by a carriage return.
    Returns,
    /// Numbers from 1 to 666, every other one behind a minus, at random.
    Signs,
    /// Numbers from 1 to 666, one of ten behind a minus, and one of ten followed by a carriage return.
    Marks,
    /// Lines of 40 bytes that are no numbers: a [`NAME`] and 18 digits. Every line is to be printed.
    Text,
}

/// The text in front of the number of a [`Payload::Text`]. With 18 digits and a line feed it has 40 bytes.
pub const NAME: &str = "sensor/17 temperature";

impl Payload {
    /// The kinds whose lines are numbers.
    pub const NUMBERS: [Payload; 7] = [
        Payload::Short,
        Payload::Counting,
        Payload::Long,
        Payload::Mixed,
        Payload::Returns,
        Payload::Signs,
        Payload::Marks,
    ];

    pub fn named(name: &str) -> Option<Payload> {
        let all = Payload::NUMBERS.into_iter().chain([Payload::Text]);
        all.into_iter().find(|payload| payload.name() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Payload::Short => "short",
            Payload::Counting => "counting",
            Payload::Long => "long",
            Payload::Mixed => "mixed",
            Payload::Returns => "returns",
            Payload::Signs => "signs",
            Payload::Marks => "marks",
            Payload::Text => "text",
        }
    }

    /// Returns an endless sequence of numbers, the same one each time.
    pub fn numbers(self) -> impl Iterator<Item = u64> {
        let mut random = Random::new(1);
        let mut count = 0;
        std::iter::repeat_with(move || match self {
            Payload::Short | Payload::Returns | Payload::Signs | Payload::Marks => {
                1 + random.below(666)
            }
            Payload::Counting => {
                count += 1;
                (count - 1) % 666 + 1
            }
            Payload::Long | Payload::Text => 10_u64.pow(17) + random.below(9 * 10_u64.pow(17)),
            Payload::Mixed => {
                let low = 10_u64.pow(u32::try_from(random.below(18)).expect("it is below 18"));
                low + random.below(9 * low)
            }
        })
    }

    /// Returns whole lines of at least `bytes` bytes in all.
    pub fn lines(self, bytes: usize) -> Lines {
        let mut lines =
            Lines { text: Vec::with_capacity(bytes + 64), count: 0, sum: Sum::default() };
        let mut random = Random::new(2);
        let mut one_of = |among| random.below(among) == 0;
        for number in self.numbers() {
            if lines.text.len() >= bytes {
                break;
            }
            if self == Payload::Text {
                lines.text.extend_from_slice(NAME.as_bytes());
            }
            let has_minus =
                self == Payload::Signs && one_of(2) || self == Payload::Marks && one_of(10);
            if has_minus {
                lines.text.push(b'-');
            }
            lines.text.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
            let has_return = self == Payload::Returns || self == Payload::Marks && one_of(10);
            lines.text.extend_from_slice(if has_return { b"\r\n" } else { b"\n" });
            lines.count += 1;
            if number % 6 == 0 || self == Payload::Text {
                lines.sum.add(number);
            }
        }
        lines
    }
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Payload::Short => "1..666",
            Payload::Counting => "1..666 in order",
            Payload::Long => "18 digits",
            Payload::Mixed => "1 to 18 digits",
            Payload::Returns => "1..666, carriage returns",
            Payload::Signs => "1..666, half negative",
            Payload::Marks => "1..666, each mark in 1 of 10",
            Payload::Text => "lines of 40 bytes",
        })
    }
}

/// Lines, their count, and the sum of the numbers in the lines to be printed.
pub struct Lines {
    pub text: Vec<u8>,
    pub count: u64,
    pub sum: Sum,
}

/// A checksum of a multiset of numbers, good enough to detect a lost one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sum {
    pub count: u64,
    pub total: u64,
}

impl Sum {
    pub fn add(&mut self, number: u64) {
        self.count += 1;
        self.total = self.total.wrapping_add(number);
    }

    pub fn times(self, n: u64) -> Sum {
        Sum { count: self.count * n, total: self.total.wrapping_mul(n) }
    }
}

/// Sebastiano Vigna's splitmix64: reproducible, and good enough to mix lengths.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Returns a number below `bound`. The bias of the remainder does not matter here.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }
}
