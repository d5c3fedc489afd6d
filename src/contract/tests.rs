use super::*;

/// The embedded text with one passage replaced, and the faults of that.
fn faults_after(passage: &str, replacement: &str) -> Vec<String> {
    assert!(EMBEDDED.contains(passage), "{passage:?} is not in the contract");
    faults_of(&EMBEDDED.replacen(passage, replacement, 1))
}

fn faults_of(text: &str) -> Vec<String> {
    match Contract::parse(text) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.0.iter().map(ToString::to_string).collect(),
    }
}

fn assert_only_fault(passage: &str, replacement: &str, start: &str, part: &str) {
    let faults = faults_after(passage, replacement);
    assert_eq!(faults.len(), 1, "{faults:#?}");
    assert!(faults[0].starts_with(start) && faults[0].contains(part), "{faults:#?}");
}

#[test]
fn the_embedded_contract_says_what_the_design_says() {
    let contract = Contract::embedded();
    assert_eq!(contract.metadata.node_name, "codegen_metrics_reducer");
    assert_eq!(contract.metadata.version, "1.0.0");
    let names: Vec<String> = contract.topics.all().iter().map(|(_, topic)| topic.name_in("dev")).collect();
    assert_eq!(
        names,
        [
            "dev.codegen.started.v1",
            "dev.codegen.stage_completed.v1",
            "dev.codegen.completed.v1",
            "dev.codegen.failed.v1",
            "dev.codegen.metrics_recorded.v1",
            "dev.coordination.event_publish_intent.v1",
            "dev.codegen.metrics_reducer.dlq.v1",
        ]
    );
    for (path, topic) in &contract.topics.all()[4..] {
        assert_eq!(topic.max_message_bytes, 8 << 20, "{path}");
    }
    let aggregation = &contract.aggregation;
    assert_eq!(aggregation.windows, WINDOWS);
    let groupings: Vec<&str> = aggregation.groupings.iter().map(|g| g.aggregation_type.as_str()).collect();
    assert_eq!(groupings, AGGREGATION_TYPES[..7], "all but workflow_grouping, no composite");
    assert_eq!(aggregation.groupings[2].values, ["effect", "orchestrator", "reducer", "compute"]);
    assert_eq!(aggregation.quality_bounds, ["0.6", "0.8"]);
    assert_eq!(aggregation.cost_buckets(), ["lt_0.01", "0.01_to_0.1", "0.1_to_1", "ge_1"]);
    assert_eq!((aggregation.batch_size, aggregation.slice_minutes), (100, 15));
    assert_eq!(contract.performance.latency_p95_ms, 100);
    assert_eq!((contract.dependencies.kafka, contract.dependencies.consul), (Need::Required, Need::Optional));
}

#[test]
fn the_groupings_that_are_commented_out_are_valid() {
    let text = EMBEDDED.replace("    # - type:", "    - type:");
    let contract = Contract::parse(&text).expect("valid with all groupings");
    let composite = &contract.aggregation.groupings[7];
    assert_eq!(composite.parts().collect::<Vec<_>>(), ["model_grouping", "node_type_grouping"]);
    assert_eq!(contract.aggregation.groupings.len(), 9);
}

#[test]
fn all_faults_are_told_at_once() {
    let text = EMBEDDED
        .replace("node_type: REDUCER", "node_type: EFFECT")
        .replace("batch_size: 100", "batch_sise: 100")
        .replace("kafka: required", "kafka: optional")
        .replace("  max_memory_mb: 256\n", "");
    let faults = faults_of(&text);
    assert_eq!(
        faults,
        [
            "metadata.node_type: \"EFFECT\" is not allowed; write REDUCER",
            "aggregation.batch_size: missing; add a whole number from 1 to 10000",
            "aggregation.batch_sise: unknown key; did you mean batch_size?",
            "performance.max_memory_mb: missing; add a whole number from 16 to 1048576",
            "dependencies.kafka: \"optional\" is not allowed; write required",
        ]
    );
    let all = Contract::parse(&text).unwrap_err().to_string();
    assert!(all.starts_with("faults in the contract: 5\n  metadata.node_type"), "{all}");
}

#[test]
fn text_that_is_no_yaml_is_one_fault() {
    for text in ["a: [", "a: 1\na: 2"] {
        let faults = faults_of(text);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("not readable as YAML: ") && !faults[0].contains('\n'), "{faults:?}");
    }
    for text in ["", "- a list"] {
        let faults = faults_of(text);
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("the document: is "), "{faults:?}");
    }
}

#[test]
fn a_missing_section_is_one_fault() {
    let (before, rest) = EMBEDDED.split_once("performance:").expect("has the section");
    let (_, after) = rest.split_once("dependencies:").expect("has the section");
    let faults = faults_of(&format!("{before}dependencies:{after}"));
    assert_eq!(faults, ["performance: missing; add this section"]);
    let (before, _) = EMBEDDED.split_once("aggregation:").expect("has the section");
    assert_eq!(faults_of(before).len(), 3);
}

#[test]
fn types_are_checked() {
    assert_only_fault(
        "partitions: 3",
        "partitions: three",
        "input_events.started.partitions: is the text",
        "",
    );
    assert_only_fault(
        "partitions: 3",
        "partitions: 0",
        "input_events.started.partitions: \"0\"",
        "1 to 1000",
    );
    assert_only_fault("retention: 35d", "retention: 35", "input_events.started.retention", "needs a unit");
    assert_only_fault(
        "max_message_bytes: 8MiB",
        "max_message_bytes: 8MB",
        "output_topics.metrics_recorded",
        "MiB",
    );
    assert_only_fault(
        "max_message_bytes: 8MiB",
        "max_message_bytes: 1048576",
        "output_topics.metrics_recorded.max_message_bytes",
        "from 8MiB",
    );
    assert_only_fault("version: 1.0.0", "version: 1.0", "metadata.version: is the number", "");
    assert_only_fault("version: 1.0.0", "version: one", "metadata.version: \"one\"", "1.0.0");
    assert_only_fault(
        "windows: [hourly, daily, weekly, monthly]",
        "windows: hourly",
        "aggregation.windows: is",
        "list",
    );
}

#[test]
fn topics_are_checked() {
    let name = "\"{env}.codegen.started.v1\"";
    assert_only_fault(name, "\"{stage}.started\"", "input_events.started.topic", "{env}");
    assert_only_fault(
        name,
        "\"{env}.codegen.failed.v1\"",
        "input_events.failed.topic",
        "input_events.started has",
    );
    assert_only_fault(
        "cleanup_policy: delete",
        "cleanup_policy: compact",
        "input_events.started",
        "write delete",
    );
    assert_only_fault(
        "[CODEGEN_STARTED, ",
        "[CODEGEN_BEGUN, ",
        "input_events.started.event_types",
        "CODEGEN_STARTED",
    );
}

#[test]
fn windows_and_slice_are_checked() {
    let windows = "[hourly, daily, weekly, monthly]";
    assert_only_fault(windows, "[hourly, yearly]", "aggregation.windows[1]: \"yearly\"", "monthly");
    assert_only_fault(windows, "[hourly, hourly]", "aggregation.windows[1]", "already");
    assert_only_fault(windows, "[]", "aggregation.windows[0]: missing", "hourly");
    assert_only_fault(
        "slice_minutes: 15",
        "slice_minutes: 25",
        "aggregation.slice_minutes",
        "divide an hour",
    );
}

#[test]
fn groupings_are_checked() {
    let model = "    - type: model_grouping\n";
    let grouping = |text: &str| format!("    - {text}\n");
    let at = "aggregation.groupings[1]";
    let only = |text: &str, part: &str| assert_only_fault(model, &grouping(text), at, part);
    only("type: models", "model_grouping");
    only("type: time_window", "already");
    only("type: model_grouping*model_grouping", "two or more different");
    only("type: model_grouping*workflow_grouping", "two or more different");
    only("{ type: model_grouping, value: [a] }", "did you mean values?");
    only("{ type: model_grouping, values: [a, a] }", "values[1]");
    only("{ type: model_grouping, values: [\"\"] }", "1 to 255 bytes");
    only("{ type: workflow_grouping, values: [a] }", "may be listed only under");
    assert_only_fault("    - type: time_window\n", "", "aggregation.groupings: missing", "time_window");

    let twice = "    - type: model_grouping*cost_buckets\n    - type: cost_buckets*model_grouping\n";
    assert_only_fault(model, twice, "aggregation.groupings[2].type", "already");
}

#[test]
fn bounds_are_checked() {
    let quality = "[\"0.6\", \"0.8\"]";
    let at = "aggregation.quality_bounds";
    assert_only_fault(quality, "[\"0.8\", \"0.6\"]", "aggregation.quality_bounds[1]", "above the one before");
    assert_only_fault(
        quality,
        "[\"0.6\", \"0.60\"]",
        "aggregation.quality_bounds[1]",
        "above the one before",
    );
    assert_only_fault(quality, "[\"0\", \"0.8\"]", "aggregation.quality_bounds[0]", "above 0");
    assert_only_fault(quality, "[\"0.6\", \"1.1\"]", "aggregation.quality_bounds[1]", "at most 1");
    assert_only_fault(quality, "[\"0.6\"]", at, "exactly 2");
    assert_only_fault(quality, "[\"0.2\", \"0.6\", \"0.8\"]", at, "exactly 2");
    assert_only_fault(quality, "[\"6e-1\", \"0.8\"]", "aggregation.quality_bounds[0]", "plain decimal");
    assert_only_fault(
        quality,
        "[0.6, \"0.8\"]",
        "aggregation.quality_bounds[0]: is the number 0.6",
        "quotes",
    );
    assert_only_fault(
        "\"0.01\", \"0.1\", \"1\"",
        "\"0.01\", \"0.1\", \"-1\"",
        "aggregation.cost_bounds[2]",
        "decimal",
    );
}

#[test]
fn bounds_are_named_in_their_shortest_form() {
    let text = EMBEDDED.replace("\"0.01\", \"0.1\", \"1\"", "\"0.050\", \"0.5\", \"10.0\"");
    let contract = Contract::parse(&text).expect("valid");
    assert_eq!(contract.aggregation.cost_buckets(), ["lt_0.05", "0.05_to_0.5", "0.5_to_10", "ge_10"]);
}

#[test]
fn every_dependency_may_be_required() {
    let contract = Contract::parse(&EMBEDDED.replace("postgresql: optional", "postgresql: required"));
    assert_eq!(contract.expect("valid").dependencies.postgresql, Need::Required);
    assert_only_fault("consul: optional", "consul: maybe", "dependencies.consul", "required, optional");
}
