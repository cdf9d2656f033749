//! Plots as SVG, drawn with the page's colours.

use std::fmt::Write as _;

pub(super) const WIDTH: f64 = 720.0;
pub(super) const HEIGHT: f64 = 250.0;
const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 16.0;
const BOTTOM: f64 = 40.0;

/// How numbers become places.
#[derive(Debug, Clone, Copy)]
pub(super) enum Scale {
    /// Equal steps from the first to the second number.
    Linear(f64, f64),
    /// Equal factors, of milliseconds.
    Log(f64, f64),
    /// Equal steps in seconds, from 0.
    Time(f64),
}

/// Milliseconds at which a logarithmic axis may have ticks: those with names of their own.
const DURATIONS: [f64; 13] =
    [1.0, 10.0, 100.0, 1e3, 1e4, 6e4, 6e5, 3.6e6, 3.6e7, 8.64e7, 8.64e8, 8.64e9, 8.64e10];
/// Seconds between the ticks of an axis of time.
const STEPS: [f64; 23] = [
    1.0,
    2.0,
    5.0,
    10.0,
    20.0,
    30.0,
    60.0,
    120.0,
    300.0,
    600.0,
    1_200.0,
    1_800.0,
    3_600.0,
    7_200.0,
    10_800.0,
    21_600.0,
    43_200.0,
    86_400.0,
    172_800.0,
    432_000.0,
    864_000.0,
    1_728_000.0,
    8_640_000.0,
];

impl Scale {
    /// A logarithmic scale around these milliseconds, from a tick to a tick.
    pub(super) fn durations(numbers: impl Iterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, 0.0_f64);
        for number in numbers.map(|number| number.max(1.0)) {
            low = low.min(number);
            high = high.max(number);
        }
        if !low.is_finite() {
            return Self::Log(1.0, 1_000.0);
        }
        let from = DURATIONS.into_iter().rfind(|tick| *tick <= low).unwrap_or(1.0);
        let to = DURATIONS.into_iter().find(|tick| *tick >= high && *tick > from).unwrap_or(high);
        Self::Log(from, to)
    }

    fn share(self, number: f64) -> f64 {
        let share = match self {
            Self::Linear(low, high) => (number - low) / (high - low).max(1e-9),
            Self::Time(high) => number / high.max(1e-9),
            Self::Log(low, high) => {
                (number.max(low).log10() - low.log10()) / (high.log10() - low.log10()).max(1e-9)
            }
        };
        share.clamp(0.0, 1.0)
    }

    fn ticks(self) -> Vec<f64> {
        match self {
            Self::Log(low, high) => {
                DURATIONS.into_iter().filter(|tick| (low..=high).contains(tick)).collect()
            }
            Self::Time(high) => {
                let step = STEPS.into_iter().find(|step| high / step <= 7.0).unwrap_or(high);
                let ticks = (0..=8).map(|n| f64::from(n) * step);
                ticks.take_while(|tick| *tick <= high).collect()
            }
            Self::Linear(low, high) => {
                let rough = (high - low).max(1e-9) / 6.0;
                let power = 10_f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|n| n * power).find(|step| *step >= rough);
                let step = step.unwrap_or(rough);
                let first = (low / step).ceil() as i64;
                (0..=8)
                    .map(|n| (first + n) as f64 * step)
                    .take_while(|tick| *tick <= high + step * 1e-6)
                    .collect()
            }
        }
    }
}

/// A plot under construction.
pub(super) struct Plot {
    x: Scale,
    y: Scale,
    body: String,
}

impl Plot {
    /// Axes; the labels of `x` and `y` are made by these.
    pub(super) fn new(
        x: Scale,
        y: Scale,
        x_text: impl Fn(f64) -> String,
        y_text: impl Fn(f64) -> String,
    ) -> Self {
        let mut plot = Self { x, y, body: String::new() };
        for tick in x.ticks() {
            let at = plot.at_x(tick);
            let anchor = if at > WIDTH - RIGHT - 16.0 { "end" } else { "middle" };
            plot.add(format_args!(
                "<line class=grid x1={at:.1} x2={at:.1} y1={TOP} y2={:.1} />\
                 <text x={at:.1} y={:.1} text-anchor={anchor}>{}</text>",
                HEIGHT - BOTTOM,
                HEIGHT - BOTTOM + 16.0,
                x_text(tick)
            ));
        }
        for tick in y.ticks() {
            let at = plot.at_y(tick);
            plot.add(format_args!(
                "<line class=grid x1={LEFT} x2={:.1} y1={at:.1} y2={at:.1} />\
                 <text x={:.1} y={:.1} text-anchor=end>{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                at + 4.0,
                y_text(tick)
            ));
        }
        plot
    }

    fn add(&mut self, part: std::fmt::Arguments<'_>) {
        // writing to a string cannot fail
        let _ = self.body.write_fmt(part);
    }

    fn at_x(&self, number: f64) -> f64 {
        LEFT + self.x.share(number) * (WIDTH - LEFT - RIGHT)
    }

    fn at_y(&self, number: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.share(number) * (HEIGHT - TOP - BOTTOM)
    }

    /// A line through points.
    pub(super) fn line(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        let path: Vec<String> =
            points.map(|(x, y)| format!("{:.1},{:.1}", self.at_x(x), self.at_y(y))).collect();
        self.add(format_args!("<polyline class=\"{class}\" points=\"{}\" />", path.join(" ")));
    }

    /// Points.
    pub(super) fn dots(&mut self, class: &str, points: impl Iterator<Item = (f64, f64)>) {
        for (x, y) in points {
            let (x, y) = (self.at_x(x), self.at_y(y));
            self.add(format_args!("<circle class=\"{class}\" cx={x:.1} cy={y:.1} r=1.8 />"));
        }
    }

    /// Marks a stretch of the x axis.
    pub(super) fn band(&mut self, from: f64, to: f64, text: &str) {
        let (from, to) = (self.at_x(from), self.at_x(to));
        self.add(format_args!(
            "<rect class=band x={from:.1} y={TOP} width={:.1} height={:.1}><title>{text}</title></rect>",
            (to - from).max(1.5),
            HEIGHT - TOP - BOTTOM
        ));
    }

    /// A word at a place.
    pub(super) fn word(&mut self, class: &str, x: f64, y: f64, text: &str) {
        let (x, y) = (self.at_x(x), self.at_y(y));
        self.add(format_args!("<text class=\"{class}\" x={:.1} y={:.1}>{text}</text>", x + 5.0, y - 5.0));
    }

    /// The plot, with what its axes are.
    pub(super) fn finish(self, x_name: &str, label: &str) -> String {
        format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=img aria-label=\"{label}\">{}\
             <text class=axis x={:.1} y={:.1} text-anchor=end>{x_name}</text></svg>",
            self.body,
            WIDTH - RIGHT,
            HEIGHT - 6.0
        )
    }
}

/// Milliseconds as people read them.
pub(super) fn millis(ms: f64) -> String {
    if ms < 1_000.0 {
        format!("{} ms", short(ms))
    } else if ms < 120_000.0 {
        format!("{} s", short(ms / 1e3))
    } else if ms < 7_200_000.0 {
        format!("{} min", short(ms / 6e4))
    } else if ms < 172_800_000.0 {
        format!("{} h", short(ms / 3.6e6))
    } else {
        format!("{} d", short(ms / 8.64e7))
    }
}

/// Seconds of virtual time on an axis.
pub(super) fn clock(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{} s", short(s)),
        s if s < 7_200.0 => format!("{} min", short(s / 60.0)),
        s if s < 172_800.0 => format!("{} h", short(s / 3_600.0)),
        s => format!("{} d", short(s / 86_400.0)),
    }
}

/// Bytes as people read them.
pub(super) fn bytes(bytes: f64) -> String {
    match bytes {
        b if b < 1e3 => format!("{b:.0} B"),
        b if b < 1e6 => format!("{} kB", short(b / 1e3)),
        b if b < 1e9 => format!("{} MB", short(b / 1e6)),
        b => format!("{} GB", short(b / 1e9)),
    }
}

/// At most three digits that matter.
pub(super) fn short(number: f64) -> String {
    let text = match number.abs() {
        n if n >= 100.0 => format!("{number:.0}"),
        n if n >= 10.0 => format!("{number:.1}"),
        _ => format!("{number:.2}"),
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_as_people_read_them() {
        assert_eq!(millis(104.0), "104 ms");
        assert_eq!(millis(1_500.0), "1.5 s");
        assert_eq!(millis(518_400_000.0), "6 d");
        assert_eq!(bytes(123_456.0), "123 kB");
        assert_eq!(short(0.5), "0.5");
        assert_eq!(short(100.0), "100");
    }

    #[test]
    fn scales_have_a_few_round_ticks() {
        assert_eq!(Scale::Linear(0.0, 181.0).ticks(), [0.0, 50.0, 100.0, 150.0]);
        assert_eq!(Scale::durations([3.0, 250.0].into_iter()).ticks(), [1.0, 10.0, 100.0, 1_000.0]);
        assert_eq!(Scale::durations([2e4, 3e5].into_iter()).ticks(), [1e4, 6e4, 6e5]);
        assert_eq!(Scale::durations(std::iter::empty()).ticks(), [1.0, 10.0, 100.0, 1_000.0]);
        assert_eq!(Scale::Time(3_000.0).ticks(), [0.0, 600.0, 1_200.0, 1_800.0, 2_400.0, 3_000.0]);
        assert_eq!(Scale::Time(864_000.0).ticks().len(), 6);
    }
}
