//! Parts that are wrong on purpose: the oracle must notice each of them.

use nightgate::release::OnUnknown;

use crate::drive::night;
use crate::knobs::{Knobs, Mutant, Weather};
use crate::oracle;
use crate::stores::in_memory;

/// Nights within which every mutant must be found out.
const SEEDS: u64 = 400;

/// Nights on which a mutant cannot show itself are passed over.
fn shows(mutant: Mutant, knobs: &Knobs) -> bool {
    match mutant {
        Mutant::ClockHidesSteps => knobs.steps > 0,
        Mutant::RetryClaimedBury => knobs.unknown_advertising == OnUnknown::Bury,
        Mutant::InformationMustWait => knobs.weather == Weather::Calm,
        Mutant::HoldForgetsPauses => knobs.calm_pauses,
        Mutant::PaceDoubled => !knobs.unpaced,
        _ => true,
    }
}

/// Runs nights with `mutant` until the oracle speaks, and sees that it names `rule`.
fn is_caught(mutant: Mutant, rule: &str) {
    let seeds = (0..SEEDS).map(|seed| Knobs::of(seed).with(mutant));
    for knobs in seeds.filter(|knobs| shows(mutant, knobs)) {
        let seed = knobs.seed;
        let found = oracle::judge(&night(knobs, in_memory()));
        if found
            .iter()
            .any(|violation| violation.rule.starts_with(rule))
        {
            println!("{mutant:?} breaks `{rule}` in the night of seed {seed}");
            return;
        }
    }
    panic!("{mutant:?} went unnoticed for {SEEDS} nights");
}

macro_rules! mutants {
    ($($name:ident: $mutant:ident breaks $rule:literal;)+) => {
        $(#[test] fn $name() { is_caught(Mutant::$mutant, $rule); })+
    };
}

mutants! {
    the_oracle_catches_a_sink_that_ignores_its_permit: SinkIgnoresPermit breaks "1";
    the_oracle_catches_a_hold_that_forgets_lapses: HoldForgetsLapses breaks "3";
    the_oracle_catches_a_hold_that_says_yes_to_old_tokens: HoldObeysNobodyAndSaysYes breaks "2";
    the_oracle_catches_a_hold_that_loses_deferred_messages: HoldLosesDeferred breaks "2";
    the_oracle_catches_a_hold_that_loses_what_was_put: HoldLosesPuts breaks "2";
    the_oracle_catches_a_hold_that_dedupes_nothing: HoldDedupesNothing breaks "3";
    the_oracle_catches_a_hold_that_recalls_nothing: HoldRecallsNothing breaks "6";
    the_oracle_catches_a_hold_that_keeps_buried_messages_moving:
        HoldKeepsBuriedMoving breaks "3";
    the_oracle_catches_a_hold_that_redates_to_never: HoldRedatesToNever breaks "2";
    the_oracle_catches_a_book_that_answers_stale_consent: BookIsStale breaks "1";
    the_oracle_catches_a_log_that_drops_attempts: LogDropsAttempted breaks "5";
    the_oracle_catches_a_log_that_forgets_hand_overs: LogForgets breaks "3";
    the_oracle_catches_a_clock_that_hides_its_steps: ClockHidesSteps breaks "1";
    the_oracle_catches_a_lane_at_twice_its_pace: PaceDoubled breaks "4";
    the_oracle_catches_retries_where_burying_was_claimed: RetryClaimedBury breaks "3";
    the_oracle_catches_rules_read_on_the_wrong_clock: RulesOnTheWrongClock breaks "1";
    the_oracle_catches_a_hold_that_forgets_pauses: HoldForgetsPauses breaks "8";
    the_oracle_catches_information_that_waits_for_morning: InformationMustWait breaks "7";
}
