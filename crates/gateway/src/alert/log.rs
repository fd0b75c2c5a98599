//! Alarms in the process's own log.

use async_trait::async_trait;

use crate::alert::{Alert, AlertPort};
use crate::error::Result;

/// Writes each alarm as one warning with the fields `kind`, `subject`, `at` and `figures`.
#[derive(Clone, Copy, Debug, Default)]
pub struct LogPort;

#[async_trait]
impl AlertPort for LogPort {
    fn name(&self) -> &'static str {
        "log"
    }

    async fn deliver(&self, alert: &Alert) -> Result<()> {
        let figures: Vec<_> = alert
            .figures
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        tracing::warn!(
            target: "nightgate::alert",
            kind = alert.kind.as_str(),
            subject = alert.subject,
            at = %alert.at,
            figures = figures.join(" "),
            "{}",
            alert.english
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::alert::text;

    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl Write for Page {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn an_alarm_is_one_structured_warning() {
        let page = Page::default();
        let writer = page.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .with_writer(move || writer.clone())
            .finish();
        let guard = tracing::subscriber::set_default(subscriber);
        let alert = text::buried("ads", 12, "2026-11-22T23:00:00Z".parse().unwrap());
        LogPort.deliver(&alert).await.unwrap();
        drop(guard);
        let bytes = page.0.lock().unwrap().clone();
        let line: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(line["level"], "WARN");
        assert_eq!(line["target"], "nightgate::alert");
        assert_eq!(line["fields"]["kind"], "buried");
        assert_eq!(line["fields"]["subject"], "ads");
        assert_eq!(line["fields"]["at"], "2026-11-22T23:00:00Z");
        assert_eq!(line["fields"]["message"], alert.english);
        assert_eq!(line["fields"]["figures"], "messages=12");
    }
}
