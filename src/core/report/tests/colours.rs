//! Colours that can be read, and told from each other, also by those who see fewer of them.

use std::collections::HashMap;

const STYLE: &str = super::STYLE;

/// The colours of the page in the light, in the dark, and on paper.
fn themes() -> [HashMap<&'static str, [f64; 3]>; 3] {
    let mut themes = STYLE.split(":root{").skip(1).map(|rest| {
        let block = rest.split('}').next().unwrap();
        let pairs = block.split(';').filter_map(|line| line.trim().strip_prefix("--")?.split_once(":#"));
        pairs.filter_map(|(name, hex)| Some((name, linear(hex)?))).collect()
    });
    [(); 3].map(|()| themes.next().unwrap())
}

/// Red, green and blue as amounts of light. None: with transparency.
fn linear(hex: &str) -> Option<[f64; 3]> {
    let digits: Vec<u32> = hex.chars().map(|c| c.to_digit(16).unwrap()).collect();
    let of = |n: u32| {
        let part = f64::from(n) / 255.0;
        if part <= 0.04045 { part / 12.92 } else { ((part + 0.055) / 1.055).powf(2.4) }
    };
    match digits[..] {
        [r, g, b] => Some([r, g, b].map(|n| of(n * 17))),
        [a, b, c, d, e, f] => Some([(a, b), (c, d), (e, f)].map(|(high, low)| of(high * 16 + low))),
        _ => None,
    }
}

/// Relative luminance and contrast as WCAG 2.1 defines them.
fn contrast(a: [f64; 3], b: [f64; 3]) -> f64 {
    let light = |[r, g, b]: [f64; 3]| 0.2126 * r + 0.7152 * g + 0.0722 * b + 0.05;
    let (a, b) = (light(a), light(b));
    a.max(b) / a.min(b)
}

#[test]
fn texts_stand_out() {
    for theme in themes() {
        let beneath = ["page", "card"].map(|name| theme[name]);
        for name in ["text", "dim", "good", "note", "paused", "bad"] {
            for under in beneath {
                assert!(theme.get(name).is_none_or(|text| contrast(*text, under) >= 5.0), "{name}");
            }
        }
        for i in 0..=crate::report::chart::OTHERS {
            let colour = theme[format!("c{i}").as_str()];
            assert!(contrast(colour, theme["card"]) >= 3.0, "c{i}");
            // A bar of progress lies upon the colour of the grid.
            assert!(i > 0 || contrast(colour, theme["grid"]) >= 3.0, "{:.2}", contrast(colour, theme["grid"]));
        }
    }
}

/// How the colours are seen by those without one kind of cones (Machado, Oliveira and Fernandes 2009, severity 1).
const SIGHTS: [[[f64; 3]; 3]; 4] = [
    [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]],
    [[0.152_286, 1.052_583, -0.204_868], [0.114_503, 0.786_281, 0.099_216], [-0.003_882, -0.048_116, 1.051_998]],
    [[0.367_322, 0.860_646, -0.227_968], [0.280_085, 0.672_501, 0.047_413], [-0.011_820, 0.042_940, 0.968_881]],
    [[1.255_528, -0.076_749, -0.178_779], [-0.078_411, 0.930_809, 0.147_602], [0.004_733, 0.691_367, 0.303_900]],
];

/// CIE L*a*b* under D65.
fn lab([r, g, b]: [f64; 3]) -> [f64; 3] {
    let f = |t: f64| if t > 0.008_856 { t.cbrt() } else { 7.787 * t + 16.0 / 116.0 };
    let x = f((0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.95047);
    let y = f(0.2126 * r + 0.7152 * g + 0.0722 * b);
    let z = f((0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.08883);
    [116.0 * y - 16.0, 500.0 * (x - y), 200.0 * (y - z)]
}

#[test]
fn things_are_told_apart_by_everybody() {
    let distance = |a: [f64; 3], b: [f64; 3]| (0..3).map(|n| (a[n] - b[n]).powi(2)).sum::<f64>().sqrt();
    for theme in themes() {
        for sight in SIGHTS {
            let seen = |i: usize| {
                let colour = theme[format!("c{i}").as_str()];
                lab(sight.map(|row| (0..3).map(|n| row[n] * colour[n]).sum::<f64>().clamp(0.0, 1.0)))
            };
            for a in 0..=crate::report::chart::OTHERS {
                for b in 0..a {
                    let apart = distance(seen(a), seen(b));
                    assert!(apart >= 11.0, "c{a} and c{b} are {apart:.1} apart");
                }
            }
        }
    }
}
