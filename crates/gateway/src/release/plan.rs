//! Whose turn is it? Information before advertising, then priority, then campaigns in equal shares.

use std::collections::BTreeMap;
use std::sync::Arc;

use nightgate_core::Purpose;

use crate::hold::Shelf;

/// Most campaigns of one priority served by one tick. Each costs a lease; with more of them, they
/// take turns from tick to tick.
const CAMPAIGNS_MAX: usize = 32;

/// What to lease: so many of one purpose and campaign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// Of this purpose.
    pub purpose: Purpose,
    /// Of this campaign; `None` for messages that name none.
    pub campaign: Option<Arc<str>>,
    /// At most so many.
    pub max: usize,
}

/// What to ask the hold for: so many, of one purpose and campaign or of any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Of this purpose and campaign; `None` for whatever comes next.
    pub of: Option<(Purpose, Option<Arc<str>>)>,
    /// At most so many.
    pub max: usize,
}

impl From<Share> for Turn {
    fn from(share: Share) -> Self {
        Self {
            of: Some((share.purpose, share.campaign)),
            max: share.max,
        }
    }
}

/// A campaign; `None` for messages that name none.
type Campaign = Option<Arc<str>>;
/// Messages due by campaign.
type Backlog = BTreeMap<Campaign, usize>;

/// Divides a budget of `max` messages among what is due. `turn` moves on with every tick, so that
/// with more campaigns than budget each gets its turn.
#[must_use]
pub fn plan(due: &[Shelf], max: usize, turn: usize) -> Vec<Share> {
    let mut classes: BTreeMap<(u8, u8), Backlog> = BTreeMap::new();
    for shelf in due.iter().filter(|shelf| shelf.held > 0) {
        let purpose_first = u8::from(shelf.purpose == Purpose::Advertising);
        let campaigns = classes.entry((purpose_first, shelf.priority)).or_default();
        let held = usize::try_from(shelf.held).unwrap_or(usize::MAX);
        let count = campaigns.entry(shelf.campaign.clone()).or_default();
        *count = count.saturating_add(held);
    }
    let mut left = max;
    let mut shares: Vec<Share> = Vec::new();
    for ((purpose, _), campaigns) in classes {
        let purpose = if purpose == 0 {
            Purpose::Informational
        } else {
            Purpose::Advertising
        };
        let mut campaigns: Vec<_> = campaigns.into_iter().collect();
        if campaigns.len() > CAMPAIGNS_MAX {
            let start = turn.wrapping_mul(CAMPAIGNS_MAX) % campaigns.len();
            campaigns.rotate_left(start);
            campaigns.truncate(CAMPAIGNS_MAX);
        }
        for (campaign, max) in divide(&campaigns, left, turn) {
            left -= max;
            let same = |share: &&mut Share| share.purpose == purpose && share.campaign == campaign;
            match shares.iter_mut().find(same) {
                Some(share) => share.max += max,
                None => shares.push(Share {
                    purpose,
                    campaign,
                    max,
                }),
            }
        }
        if left == 0 {
            break;
        }
    }
    shares
}

/// Equal shares of `budget`; what one cannot use goes to the others; odd ones go by turn.
fn divide(campaigns: &[(Campaign, usize)], budget: usize, turn: usize) -> Vec<(Campaign, usize)> {
    let mut given = vec![0_usize; campaigns.len()];
    let mut left = budget;
    loop {
        let hungry: Vec<usize> = (0..campaigns.len())
            .filter(|&place| given[place] < campaigns[place].1)
            .collect();
        if hungry.is_empty() || left == 0 {
            break;
        }
        let share = left / hungry.len();
        if share == 0 {
            for offset in 0..left {
                given[hungry[(turn + offset) % hungry.len()]] += 1;
            }
            break;
        }
        for place in hungry {
            let more = share.min(campaigns[place].1 - given[place]);
            given[place] += more;
            left -= more;
        }
    }
    let shares = campaigns.iter().zip(given).filter(|(_, given)| *given > 0);
    shares
        .map(|((campaign, _), given)| (campaign.clone(), given))
        .collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use nightgate_core::Class;

    use super::*;
    use crate::hold::Lane;

    fn shelf(purpose: Purpose, campaign: &str, priority: u8, held: u64) -> Shelf {
        Shelf {
            lane: Lane::new("main"),
            purpose,
            class: Class::from_name("x"),
            campaign: Some(campaign.into()),
            priority,
            due: Timestamp::UNIX_EPOCH,
            held,
            leased: 0,
            buried: 0,
        }
    }

    fn named(shares: &[Share]) -> Vec<(&str, usize)> {
        shares
            .iter()
            .map(|share| (share.campaign.as_deref().unwrap_or("-"), share.max))
            .collect()
    }

    #[test]
    fn information_leaves_before_advertising_whatever_the_priority() {
        let due = [
            shelf(Purpose::Advertising, "sale", 0, 1000),
            shelf(Purpose::Informational, "order", 9, 30),
        ];
        assert_eq!(named(&plan(&due, 100, 0)), [("order", 30), ("sale", 70)]);
    }

    #[test]
    fn a_small_campaign_is_not_starved_by_a_large_one() {
        let due = [
            shelf(Purpose::Advertising, "huge", 5, 1_000_000),
            shelf(Purpose::Advertising, "small", 5, 10),
            shelf(Purpose::Advertising, "medium", 5, 45),
        ];
        assert_eq!(
            named(&plan(&due, 100, 0)),
            [("huge", 45), ("medium", 45), ("small", 10)]
        );
    }

    #[test]
    fn a_lower_priority_gets_only_what_is_left() {
        let due = [
            shelf(Purpose::Advertising, "late", 7, 500),
            shelf(Purpose::Advertising, "soon", 1, 60),
        ];
        assert_eq!(named(&plan(&due, 50, 0)), [("soon", 50)]);
        assert_eq!(named(&plan(&due, 100, 0)), [("soon", 60), ("late", 40)]);
    }

    #[test]
    fn hundreds_of_campaigns_take_turns_from_tick_to_tick() {
        let due: Vec<Shelf> = (0..100)
            .map(|n| shelf(Purpose::Advertising, &format!("c{n:03}"), 5, 100))
            .collect();
        let mut seen = std::collections::BTreeSet::new();
        for turn in 0..4 {
            let shares = plan(&due, 1000, turn);
            assert_eq!(shares.len(), CAMPAIGNS_MAX);
            seen.extend(shares.into_iter().map(|share| share.campaign));
        }
        assert_eq!(seen.len(), 100);
    }

    #[test]
    fn with_more_campaigns_than_budget_every_one_gets_its_turn() {
        let due: Vec<Shelf> = (0..10)
            .map(|n| shelf(Purpose::Advertising, &format!("c{n}"), 5, 100))
            .collect();
        let mut seen = std::collections::BTreeSet::new();
        for turn in 0..10 {
            let shares = plan(&due, 3, turn);
            assert_eq!(shares.iter().map(|share| share.max).sum::<usize>(), 3);
            seen.extend(shares.into_iter().map(|share| share.campaign));
        }
        assert_eq!(seen.len(), 10);
    }
}
