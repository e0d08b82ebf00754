//! The way to a state, as text: `SEED/MOMENT=WAY.WAY.WAY/MOMENT=kill/...`, each crash after the one
//! before it.

use std::fmt;

/// How a crash comes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Failure {
    /// The power fails; these are the ways in which lines survive, in the order in which they are
    /// looked at. Lines behind the last survive whole.
    Power(Vec<u64>),
    /// The process dies.
    Kill,
}

/// One crash.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Step {
    /// The number of the moment in its run.
    pub moment: u64,
    pub failure: Failure,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Replay {
    pub seed: u64,
    pub steps: Vec<Step>,
}

impl Replay {
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('/');
        let seed = parts.next()?.parse().ok()?;
        let steps = parts.map(Step::parse).collect::<Option<_>>()?;
        Some(Self { seed, steps })
    }
}

impl Step {
    fn parse(text: &str) -> Option<Self> {
        let (moment, failure) = text.split_once('=')?;
        let failure = match failure {
            "kill" => Failure::Kill,
            ways => {
                let ways = ways.split('.').filter(|way| !way.is_empty());
                Failure::Power(ways.map(|way| way.parse().ok()).collect::<Option<_>>()?)
            }
        };
        Some(Self { moment: moment.parse().ok()?, failure })
    }
}

impl fmt::Display for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.seed)?;
        self.steps.iter().try_for_each(|Step { moment, failure }| match failure {
            Failure::Kill => write!(f, "/{moment}=kill"),
            Failure::Power(ways) => {
                let ways: Vec<String> = ways.iter().map(u64::to_string).collect();
                write!(f, "/{moment}={}", ways.join("."))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_printed_is_read_again() {
        for text in ["7", "1/0=", "9/412=0.3.17/5=kill/0=1"] {
            assert_eq!(Replay::parse(text).expect(text).to_string(), text);
        }
        for text in ["", "x", "1/2", "1/2=k", "1/2=3.x", "1/=2"] {
            assert_eq!(Replay::parse(text), None, "{text}");
        }
    }
}
