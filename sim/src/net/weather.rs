//! What the wires do: how long bytes take, and which are lost.

use crate::draw::Draw;
use crate::trace::MILLI;

/// Bytes of IP and TCP headers on each segment.
pub(super) const HEADERS: usize = 40;
/// First retransmission timeout of established connections, as Linux has it.
const RTO: u64 = 200 * MILLI;
/// Longest pause between retransmissions.
const RTO_MAX: u64 = 60_000 * MILLI;
/// First retransmission of a SYN.
const SYN_RTO: u64 = 1_000 * MILLI;

/// The state of the whole network. Times are nanoseconds, shares at most 1.
#[derive(Debug, Clone)]
pub(crate) struct Weather {
    /// One-way latency from region to region.
    pub latency: Vec<Vec<u64>>,
    /// Each packet takes up to this share of its latency more.
    pub jitter: f64,
    /// Share of packets lost.
    pub loss: f64,
    /// Share of packets that are overtaken by later ones,
    pub reorder: f64,
    /// which they arrive behind, by up to this.
    pub reorder_delay: u64,
    /// Largest packet, headers included.
    pub mtu: usize,
    /// Added to every latency.
    pub extra: u64,
}

impl Weather {
    pub(super) fn latency(&self, from: usize, to: usize, draw: &mut Draw) -> u64 {
        let base = self.latency.get(from).and_then(|row| row.get(to)).copied().unwrap_or_default();
        let base = base.saturating_add(self.extra);
        if self.jitter > 0.0 { base + (base as f64 * self.jitter * draw.unit()) as u64 } else { base }
    }

    /// Segments of so many bytes.
    pub(super) fn segments(&self, bytes: usize) -> usize {
        bytes.div_ceil(self.mtu.saturating_sub(HEADERS).max(1)).max(1)
    }

    /// How much later the last of these segments arrives because some are lost or overtaken.
    pub(super) fn mishaps(&self, segments: usize, loss: f64, draw: &mut Draw) -> (u64, u64) {
        let loss = 1.0 - (1.0 - self.loss) * (1.0 - loss);
        let (mut latest, mut lost) = (0, 0);
        if loss <= 0.0 && self.reorder <= 0.0 {
            return (0, 0);
        }
        for _ in 0..segments {
            let (mut delay, mut attempt) = (0, 0);
            while draw.chance(loss.min(0.99)) {
                lost += 1;
                delay += backoff(attempt);
                attempt += 1;
            }
            if draw.chance(self.reorder) {
                delay += (self.reorder_delay as f64 * draw.unit()) as u64;
            }
            latest = latest.max(delay);
        }
        (latest, lost)
    }

    /// Pause before the next attempt of a dial that got no answer; `None` once it is given up.
    pub(super) fn redial(attempt: u32) -> Option<u64> {
        (attempt < 6).then(|| SYN_RTO << attempt)
    }

    /// Whether a SYN and its answer both get through.
    pub(super) fn shakes_hands(&self, loss: f64, draw: &mut Draw) -> bool {
        let loss = 1.0 - (1.0 - self.loss) * (1.0 - loss);
        !draw.chance(1.0 - (1.0 - loss) * (1.0 - loss))
    }
}

/// Pause before the next retransmission.
pub(super) fn backoff(attempt: u32) -> u64 {
    RTO.checked_shl(attempt.min(20)).unwrap_or(RTO_MAX).min(RTO_MAX)
}
