use super::*;

const MNLI: &str = "entailment neutral contradiction";

fn labels(names: &str) -> LabelConfig {
    LabelConfig::named(names.split(' '))
}

fn called(names: &str) -> Vec<String> {
    names.split(' ').map(String::from).collect()
}

/// Labels of a model and of a task, the outputs in the task's order, and whether the note says `name` or
/// `index`.
#[test]
fn outputs_are_matched_by_name_and_by_index_only_without_names() {
    for (found, wanted, outputs, note) in [
        ("neg pos", "neg pos", &[0, 1][..], ""),
        ("pos neg", "neg pos", &[1, 0], "by name"),
        ("CONTRADICTION NEUTRAL ENTAILMENT", MNLI, &[2, 1, 0], "by name"),
        ("Entailment Neutral Contradiction", MNLI, &[0, 1, 2], ""),
        ("c a b", "a b c", &[1, 2, 0], "by name"),
        // Exact names win over names that differ in case only.
        ("a A", "A a", &[1, 0], "by name"),
        // How it is written.
        ("NOT_ENTAILMENT ENTAILMENT", "entailment not-entailment", &[1, 0], "by name"),
        ("NEGATIVE POSITIVE", "neg pos", &[0, 1], "by name"),
        ("POSITIVE NEGATIVE", "neg pos", &[1, 0], "by name"),
        ("contradiction entailment neutral", MNLI, &[1, 2, 0], "by name"),
        ("unacceptable acceptable", "unacceptable acceptable", &[0, 1], ""),
        ("1 0", "0 1", &[1, 0], "by name"),
        ("1.0 0.0", "0 1", &[1, 0], "by name"),
        ("True False", "false true", &[1, 0], "by name"),
        ("10 9", "9 10", &[1, 0], "by name"),
        // No names.
        ("LABEL_0 LABEL_1", "negative positive", &[0, 1], "by index"),
        ("LABEL_0 LABEL_1", "0 1", &[0, 1], "by index"),
        ("LABEL_0 LABEL_1 LABEL_2", "1 2 3", &[0, 1, 2], "by index"),
        ("0 1", "negative positive", &[0, 1], "by index"),
        ("0 1 2", MNLI, &[0, 1, 2], "by index"),
        ("neg pos", "LABEL_0 LABEL_1", &[0, 1], "by index"),
        ("LABEL_1 LABEL_0", "LABEL_0 LABEL_1", &[1, 0], "by name"),
    ] {
        let aligned = labels(found).align(&labels(wanted));
        let aligned = aligned.unwrap_or_else(|e| panic!("{found} → {wanted}: {e}"));
        assert_eq!(aligned.outputs, outputs, "{found} → {wanted}");
        let said = aligned.note.unwrap_or_default();
        assert!(said.contains(note) && said.is_empty() == note.is_empty(), "{found}: {said}");
    }
}

#[test]
fn labels_that_leave_open_which_is_which_are_refused() {
    for (found, wanted, why) in [
        ("sports politics science", MNLI, ""),
        ("negative positive", "0 1", ""),
        ("neg pos", "down up", ""),
        ("1 0", "neg pos", ""),
        ("1 2", "neg pos", ""),
        ("0 1", "1 2", "only some"),
        ("0 1", "10 11", ""),
        ("LABEL_1 LABEL_0", "neg pos", ""),
        ("neg pos neutral", "neg pos other", "only some"),
        ("neg neg", "neg pos", "twice"),
        ("neg NEG", "Neg pos", ""),
        ("neg negative", "neg pos", "only some"),
        ("a b c", "a b", ""),
    ] {
        let message = match labels(found).align(&labels(wanted)) {
            Err(mismatch) => mismatch.to_string(),
            Ok(aligned) => panic!("{found} → {wanted}: {aligned:?}"),
        };
        for part in [&found.replace(' ', ", "), &wanted.replace(' ', ", "), why] {
            assert!(message.contains(part), "{found} → {wanted}: {message}");
        }
        assert!(message.contains("--new-head") && message.contains("--labels"), "{message}");
    }
}

#[test]
fn other_kinds_of_task_are_refused() {
    let of = |kind, count| LabelConfig { problem_type: Some(kind), ..LabelConfig::numbered(count) };
    let score = LabelConfig::named(["similarity"]);
    assert!(score.align(&of(ProblemType::Regression, 1)).unwrap().is_identity());
    for (found, wanted) in [
        (of(ProblemType::MultiLabelClassification, 2), labels("LABEL_0 LABEL_1")),
        (of(ProblemType::Regression, 2), labels("LABEL_0 LABEL_1")),
        (of(ProblemType::MultiLabelClassification, 1), of(ProblemType::Regression, 1)),
    ] {
        let message = found.align(&wanted).unwrap_err().to_string();
        assert!(message.contains("multi_label") || message.contains("2 scores"), "{message}");
    }
}

#[test]
fn the_user_may_name_outputs_that_the_model_does_not() {
    for (found, said, wanted, outputs) in [
        // The names of one's own data.
        ("sports politics", "a b", "a b", &[0, 1][..]),
        ("LABEL_0 LABEL_1", "b a", "b a", &[0, 1]),
        ("negative positive", "0 1", "0 1", &[0, 1]),
        // Names that the model has come first: the order is the wanted one.
        ("pos neg", "neg pos", "neg pos", &[1, 0]),
        // A task's own names.
        ("LABEL_0 LABEL_1 LABEL_2", "contradiction entailment neutral", MNLI, &[1, 2, 0]),
        ("x y z", "contradiction entailment neutral", MNLI, &[1, 2, 0]),
        ("CONTRADICTION y z", "contradiction entailment neutral", MNLI, &[1, 2, 0]),
    ] {
        let aligned = labels(found).align_called(&called(said), &labels(wanted));
        assert_eq!(aligned.unwrap().outputs, outputs, "{found}, {said}");
    }
    for (found, said, wanted) in [
        ("contradiction neutral entailment", "neutral contradiction entailment", MNLI),
        ("pos neg other", "neg pos neutral", "neg pos neutral"),
        ("x y z", "a b c", MNLI),
        ("x y", "a b c", "a b c"),
        ("x y", "a b c", "a b"),
    ] {
        let aligned = labels(found).align_called(&called(said), &labels(wanted));
        assert!(aligned.is_err(), "{found}, {said}: {aligned:?}");
    }
}

#[test]
fn a_head_with_all_labels_of_the_task_is_not_thrown_away_unasked() {
    for (found, wanted, related) in [
        ("neg neutral pos", "neg pos", true),
        ("neg pos", "nan neg pos", true),
        ("NEGATIVE POSITIVE", "neg neutral pos", true),
        (MNLI, "entailment not_entailment", false),
        ("LABEL_0 LABEL_1", "LABEL_0 LABEL_1 LABEL_2", false),
        ("sports politics", "a b c", false),
        ("score", "score other", false),
    ] {
        let check = labels(found).check_unrelated(&labels(wanted));
        assert_eq!(check.is_err(), related, "{found} → {wanted}");
    }
}

#[test]
fn rows_are_permuted_whole() {
    let aligned = labels("c a b").align(&labels("a b c")).unwrap();
    assert_eq!(aligned.permute(vec![0.0, 1.0, 2.0]), [1.0, 2.0, 0.0]);
    assert_eq!(aligned.permute(vec![0.0, 0.5, 1.0, 1.5, 2.0, 2.5]), [1.0, 1.5, 2.0, 2.5, 0.0, 0.5]);
    let same = labels("a b c").align(&labels("a b c")).unwrap();
    assert_eq!(same.permute(vec![3.0, 4.0, 5.0]), [3.0, 4.0, 5.0]);
}

#[test]
fn a_label_is_found_by_the_best_match_that_is_alone() {
    let names = called("Pos neg 1.0");
    assert_eq!(label_index(&names, "pos"), Some(0));
    assert_eq!(label_index(&names, "NEGATIVE"), Some(1));
    assert_eq!(label_index(&names, "1"), Some(2));
    assert_eq!(label_index(&names, "2"), None);
    let names = called("a A b");
    assert_eq!(label_index(&names, "A"), Some(1));
    assert_eq!(label_index(&called("a-b A_B"), "A b"), None);
}
