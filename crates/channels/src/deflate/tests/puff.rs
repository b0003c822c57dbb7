//! A plain inflater after RFC 1951 that is slow and tells how far back a stream refers.

struct Bits<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Bits<'_> {
    fn take(&mut self, count: usize) -> usize {
        let bit = |at: usize| usize::from(self.bytes[at / 8] >> (at % 8) & 1);
        let value = (0..count).map(|index| bit(self.at + index) << index).sum();
        self.at += count;
        value
    }

    fn symbol(&mut self, lengths: &[u8]) -> usize {
        let (mut code, mut first) = (0, 0);
        for length in 1..=15_u8 {
            code = code << 1 | self.take(1);
            let mut of_length = lengths.iter().enumerate().filter(|(_, known)| **known == length);
            let count = of_length.clone().count();
            if code < first + count {
                return of_length.nth(code - first).unwrap().0;
            }
            first = (first + count) << 1;
        }
        panic!("no such code");
    }
}

const LENGTHS: [(usize, usize); 29] = [
    (3, 0),
    (4, 0),
    (5, 0),
    (6, 0),
    (7, 0),
    (8, 0),
    (9, 0),
    (10, 0),
    (11, 1),
    (13, 1),
    (15, 1),
    (17, 1),
    (19, 2),
    (23, 2),
    (27, 2),
    (31, 2),
    (35, 3),
    (43, 3),
    (51, 3),
    (59, 3),
    (67, 4),
    (83, 4),
    (99, 4),
    (115, 4),
    (131, 5),
    (163, 5),
    (195, 5),
    (227, 5),
    (258, 0),
];

/// All that a stream of blocks says, and the greatest distance in it.
pub(super) fn inflate(bytes: &[u8]) -> (Vec<u8>, usize) {
    let mut bits = Bits { bytes, at: 0 };
    let (mut out, mut farthest) = (Vec::new(), 0);
    while bits.at + 8 <= bytes.len() * 8 {
        let last = bits.take(1) == 1;
        let (literals, distances) = match bits.take(2) {
            0 => {
                let start = bits.at.div_ceil(8);
                let len = usize::from(u16::from_le_bytes([bytes[start], bytes[start + 1]]));
                out.extend_from_slice(&bytes[start + 4..start + 4 + len]);
                bits.at = (start + 4 + len) * 8;
                continue;
            }
            1 => (fixed(), vec![5; 30]),
            2 => dynamic(&mut bits),
            _ => panic!("no such block"),
        };
        loop {
            match bits.symbol(&literals) {
                literal @ 0..=255 => out.push(u8::try_from(literal).unwrap()),
                256 => break,
                symbol => {
                    let (base, extra) = LENGTHS[symbol - 257];
                    let len = base + bits.take(extra);
                    let symbol = bits.symbol(&distances);
                    let extra = (symbol / 2).saturating_sub(1);
                    let base = if symbol < 4 { symbol + 1 } else { ((2 + symbol % 2) << extra) + 1 };
                    let distance = base + bits.take(extra);
                    farthest = farthest.max(distance);
                    for _ in 0..len {
                        out.push(out[out.len() - distance]);
                    }
                }
            }
        }
        assert!(!last, "a flushed message has no last block");
    }
    (out, farthest)
}

fn fixed() -> Vec<u8> {
    [vec![8; 144], vec![9; 112], vec![7; 24], vec![8; 8]].concat()
}

fn dynamic(bits: &mut Bits<'_>) -> (Vec<u8>, Vec<u8>) {
    const ORDER: [usize; 19] = [16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15];
    let (literals, distances, codes) = (bits.take(5) + 257, bits.take(5) + 1, bits.take(4) + 4);
    let mut of_codes = [0; 19];
    for place in &ORDER[..codes] {
        of_codes[*place] = u8::try_from(bits.take(3)).unwrap();
    }
    let mut lengths: Vec<u8> = Vec::new();
    while lengths.len() < literals + distances {
        let (length, count) = match bits.symbol(&of_codes) {
            16 => (*lengths.last().unwrap(), 3 + bits.take(2)),
            17 => (0, 3 + bits.take(3)),
            18 => (0, 11 + bits.take(7)),
            length => (u8::try_from(length).unwrap(), 1),
        };
        lengths.extend(std::iter::repeat_n(length, count));
    }
    let distances = lengths.split_off(literals);
    (lengths, distances)
}
