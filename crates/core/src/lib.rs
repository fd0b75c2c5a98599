//! The pure heart of Nightgate: may this message leave now, and if not, when is it worth asking
//! again?
//!
//! No clock, no socket, no await: time and consent come in as arguments, a [`Decision`] goes out.
//! Start at [`decide`]; everything else here is what it reads ([`Ruleset`], [`Message`], [`Facts`])
//! or what it answers ([`Permit`], [`Reason`]).

pub mod consent;
pub mod decision;
pub mod explain;
pub mod hours;
pub mod message;
mod ranges;
pub mod recipient;
pub mod ruleset;
pub mod zone;

pub use consent::{
    Basis, Consent, ConsentAnswer, ConsentSnapshot, Fact, Grant, Scope, Standing, Validity,
};
pub use decision::{Code, Decision, Facts, Permit, Reason, Round, Ruled, decide};
pub use explain::{Answer, Language, explain};
pub use message::{Channel, Class, FieldFault, Message, MessageId, Priority, Purpose};
pub use recipient::{Recipient, RecipientKey};
pub use ruleset::{PackFault, PackSource, Ruleset};
pub use zone::{House, Jurisdiction, Place, ZoneSource, Zones, locate};
