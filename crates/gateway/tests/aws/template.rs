//! What `deploy/aws/template.yaml` says, read as CloudFormation reads it.

use std::collections::BTreeSet;
use std::path::Path;

use jiff::civil::{date, time};
use jiff::tz::TimeZone;
use nightgate::config::{Config, HoldKind, Opening, ReceiptStore, SinkConfig, Sources};
use nightgate::ingest::sqs::Mapping;
use serde_json::Value as Json;

use crate::emulators::python;

/// A template, with `!Ref` and the like in their long form.
pub(crate) struct Template(pub(crate) Json);

impl Template {
    pub(crate) fn of_this_crate() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/aws/template.yaml");
        let text = python("cfn", "template.py", &[path.to_str().unwrap()], "");
        Self(serde_json::from_str(&text).unwrap())
    }

    /// The resources of a type with their names and properties.
    pub(crate) fn all(&self, of: &str) -> impl Iterator<Item = (&str, &Json)> {
        let resources = self.0["Resources"].as_object().unwrap().iter();
        let of = of.to_owned();
        let of_type = move |one: &(&String, &Json)| one.1["Type"] == of.as_str();
        resources
            .filter(of_type)
            .map(|(name, one)| (name.as_str(), &one["Properties"]))
    }

    /// A value's text, with the defaults of all parameters. What stands for a resource as a whole
    /// is its name, which all of ours are given.
    pub(crate) fn text(&self, value: &Json) -> String {
        match value {
            Json::String(text) => text.clone(),
            Json::Object(_) if value["Ref"].is_string() => {
                self.named(value["Ref"].as_str().unwrap())
            }
            Json::Object(_) if value["Fn::GetAtt"].is_array() => {
                let part = value["Fn::GetAtt"][1].as_str().unwrap();
                let name = value["Fn::GetAtt"][0].as_str().unwrap();
                assert_eq!(part, "QueueName", "no more is known of {name}");
                self.text(&self.0["Resources"][name]["Properties"][part])
            }
            Json::Object(_) if value["Fn::Sub"].is_string() => {
                let mut text = String::new();
                for part in value["Fn::Sub"].as_str().unwrap().split("${") {
                    match part.split_once('}') {
                        Some((name, rest)) => text += &(self.named(name) + rest),
                        None => text += part,
                    }
                }
                text
            }
            Json::Number(number) => number.to_string(),
            other => panic!("{other} is of no kind that the template has"),
        }
    }

    fn named(&self, name: &str) -> String {
        let default = &self.0["Parameters"][name]["Default"];
        if !default.is_null() {
            return self.text(default);
        }
        let resource = &self.0["Resources"][name];
        let key = match resource["Type"].as_str() {
            Some("AWS::DynamoDB::Table") => "TableName",
            Some("AWS::Lambda::Function") => "FunctionName",
            other => panic!("{name}, which is {other:?}, has neither default nor name"),
        };
        self.text(&resource["Properties"][key])
    }

    /// The variables of a function.
    pub(crate) fn environment(&self, function: &Json) -> Vec<(String, String)> {
        let variables = function["Environment"]["Variables"].as_object().unwrap();
        let variable = |(name, value): (&String, &Json)| (name.clone(), self.text(value));
        variables.iter().map(variable).collect()
    }

    /// The names of all queues.
    fn queues(&self) -> BTreeSet<String> {
        let queues = self.all("AWS::SQS::Queue");
        queues
            .map(|(_, queue)| self.text(&queue["QueueName"]))
            .collect()
    }
}

/// A text or a list of such.
fn list(value: &Json) -> Vec<&Json> {
    value
        .as_array()
        .map_or(vec![value], |all| all.iter().collect())
}

#[test]
fn every_variable_of_a_function_is_a_setting_and_none_needs_a_disk() {
    let template = Template::of_this_crate();
    let queues = template.queues();
    let mut configs = Vec::new();
    for (name, function) in template.all("AWS::Lambda::Function") {
        let env = template.environment(function);
        let sources = Sources {
            env: env.clone(),
            ..Sources::default()
        };
        // A variable of a wrong name, or with a value out of range, is a fault.
        let loaded = Config::load(&sources).unwrap_or_else(|faults| panic!("{name}: {faults}"));
        let config = loaded.config;
        assert_eq!(config.hold.store, HoldKind::Sqs, "{name}");
        assert_eq!(config.receipts.store, ReceiptStore::Lines, "{name}");
        assert!(!config.uses_disk(), "{name}");
        let [lane] = &config.lanes[..] else {
            panic!("{name} has one lane")
        };
        assert!(matches!(lane.sink, SinkConfig::Sqs(_)), "{name}");
        let [source] = &config.sources[..] else {
            panic!("{name} has one source")
        };
        assert!(Mapping::parse(&source.map).is_ok(), "{name}");
        let mut used = vec![source.queue.clone(), source.dead_letter.clone().unwrap()];
        let held = |queue: &str| format!("{}-{}-{queue}", config.hold.sqs.prefix, lane.name);
        used.extend(["ready", "wait", "buried"].map(held));
        let openings = 1..=config.hold.sqs.openings.len();
        used.extend(openings.map(|number| held(&format!("wait-{number}"))));
        assert_eq!(used.into_iter().collect::<BTreeSet<_>>(), queues, "{name}");
        configs.push(env);
    }
    assert_eq!(configs.len(), 2);
    assert_eq!(configs[0], configs[1], "both find the same messages");
}

#[test]
fn every_alarm_watches_something_that_is_there() {
    let template = Template::of_this_crate();
    let mut queues = template.queues();
    queues.insert(template.named("TargetQueueName"));
    let functions = template.all("AWS::Lambda::Function");
    let functions: BTreeSet<_> = functions
        .map(|(_, function)| template.text(&function["FunctionName"]))
        .collect();
    let mut watched = 0;
    for (name, alarm) in template.all("AWS::CloudWatch::Alarm") {
        assert_eq!(alarm["AlarmActions"][0]["Ref"], "AlarmTopic", "{name}");
        let metrics = alarm["Metrics"].as_array().into_iter().flatten();
        let metrics = metrics.map(|metric| &metric["MetricStat"]["Metric"]);
        let metrics = metrics.filter(|metric| metric.is_object());
        for metric in metrics.chain(alarm.get("MetricName").map(|_| alarm)) {
            let dimension = &metric["Dimensions"][0];
            let value = template.text(&dimension["Value"]);
            let there = match dimension["Name"].as_str() {
                Some("QueueName") => &queues,
                Some("FunctionName") => &functions,
                other => panic!("{name} watches a {other:?}"),
            };
            assert!(there.contains(&value), "{name} watches {value}");
            watched += 1;
        }
    }
    assert!(watched >= 9, "{watched}");
}

#[test]
fn a_role_may_do_what_is_named_to_what_is_named_and_nothing_else() {
    let template = Template::of_this_crate();
    let mut statements = 0;
    for (name, role) in template.all("AWS::IAM::Role") {
        assert!(role.get("ManagedPolicyArns").is_none(), "{name}");
        for policy in role["Policies"].as_array().unwrap() {
            for statement in policy["PolicyDocument"]["Statement"].as_array().unwrap() {
                assert!(statement.get("NotAction").is_none(), "{statement}");
                assert!(statement.get("NotResource").is_none(), "{statement}");
                for action in list(&statement["Action"]) {
                    let action = action.as_str().unwrap();
                    assert!(!action.contains('*'), "{name}: {action}");
                }
                let resources = list(&statement["Resource"]);
                assert!(!resources.is_empty(), "{statement}");
                for resource in resources {
                    let text = resource.to_string();
                    assert!(!text.contains('*') && resource != "", "{name}: {text}");
                }
                statements += 1;
            }
        }
    }
    assert!(statements >= 7, "{statements}");
}

#[test]
fn the_drain_runs_every_minute_since_information_may_leave_at_any_hour() {
    let template = Template::of_this_crate();
    let zones = ["Zone", "SecondZone", "ThirdZone"];
    let schedules: Vec<_> = template.all("AWS::Scheduler::Schedule").collect();
    assert_eq!(schedules.len(), zones.len());
    for ((name, schedule), zone) in schedules.into_iter().zip(zones) {
        let expression = template.text(&schedule["ScheduleExpression"]);
        assert_eq!(expression, "cron(* * * * ? *)", "{name}");
        // Whoever names hours means those of a place; without a zone they would be UTC.
        let clock = &schedule["ScheduleExpressionTimezone"]["Ref"];
        assert_eq!(clock, zone, "{name}");
        assert_eq!(schedule["Target"]["Arn"]["Fn::GetAtt"][0], "DrainFunction");
    }
}

#[test]
fn the_alarm_that_nothing_moved_knows_the_hours_in_which_something_should() {
    let template = Template::of_this_crate();
    let default = |name: &str| template.text(&template.0["Parameters"][name]["Default"]);
    let zone = TimeZone::get(&default("Zone")).unwrap();
    let opening = Opening::parse(&default("Opening")).unwrap();
    assert_eq!(opening.zone, zone);
    // Korea's night ends with the opening and begins at nine, on any day: it has no summer time.
    for (at, parameter) in [
        (opening.at, "OpensHourUtc"),
        (time(21, 0, 0, 0), "ClosesHourUtc"),
    ] {
        let at = date(2026, 11, 23).to_datetime(at).to_zoned(zone.clone());
        let hour = at.unwrap().with_time_zone(TimeZone::UTC).hour();
        assert_eq!(default(parameter), hour.to_string(), "{parameter}");
    }
    let alarm = &template.0["Resources"]["NothingMoved"]["Properties"];
    let metrics = alarm["Metrics"].as_array().unwrap();
    let ids: BTreeSet<_> = metrics
        .iter()
        .map(|one| template.text(&one["Id"]))
        .collect();
    let expression = template.text(&metrics[0]["Expression"]);
    let words = expression.split(|byte: char| !byte.is_ascii_alphanumeric());
    // Names of metrics are in lower case, functions and operators in upper.
    let used = words.filter(|word| word.starts_with(|first: char| first.is_ascii_lowercase()));
    let used: BTreeSet<_> = used
        .map(str::to_owned)
        .chain(["stuck".to_owned()])
        .collect();
    assert_eq!(used, ids, "{expression}");
    // A lane that fails empties and fills its own queue again and again: only the target tells.
    let sent = metrics.iter().find(|one| one["Id"] == "sent").unwrap();
    let sent = &sent["MetricStat"]["Metric"];
    assert_eq!(sent["MetricName"], "NumberOfMessagesSent");
    assert_eq!(sent["Dimensions"][0]["Value"]["Ref"], "TargetQueueName");
}
