//! Counts alarms in the metrics, as one more place they go to.

use std::sync::Arc;

use async_trait::async_trait;

use super::{Alert, AlertPort};
use crate::error::Result;
use crate::metrics::Metrics;

/// The metrics as a port: each alarm that was not a repeat counts once.
pub struct CountPort(pub Arc<Metrics>);

#[async_trait]
impl AlertPort for CountPort {
    fn name(&self) -> &'static str {
        "metrics"
    }

    async fn deliver(&self, alert: &Alert) -> Result<()> {
        self.0.alert(alert.kind.as_str());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::text;

    #[tokio::test]
    async fn every_alarm_that_goes_out_is_counted_by_its_kind() {
        let metrics = Arc::new(Metrics::default());
        let alarm = text::buried("main", 3, jiff::Timestamp::UNIX_EPOCH);
        CountPort(Arc::clone(&metrics))
            .deliver(&alarm)
            .await
            .unwrap();
        let shown = metrics.encode();
        assert!(
            shown.contains(r#"nightgate_alerts_total{kind="buried"} 1"#),
            "{shown}"
        );
    }
}
