//! Prometheus' text format: each family once, with what it is before its samples.

use std::fmt::{Display, Write as _};

/// The text so far.
#[derive(Default)]
pub(super) struct Text(String);

/// One family, which takes its samples.
pub(super) struct Family<'a> {
    out: &'a mut String,
    name: &'static str,
}

impl Text {
    pub(super) fn gauge(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.gauges(name, help).sample(&[], value);
    }

    /// The family stands there without a sample, too: who looks for its name finds it.
    pub(super) fn gauge_if(&mut self, name: &'static str, help: &str, value: Option<impl Display>) {
        let mut family = self.gauges(name, help);
        value.into_iter().for_each(|value| family.sample(&[], value));
    }

    pub(super) fn counter(&mut self, name: &'static str, help: &str, value: impl Display) {
        self.counters(name, help).sample(&[], value);
    }

    pub(super) fn gauges(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "gauge", help)
    }

    /// The name of a counter ends in `_total`.
    pub(super) fn counters(&mut self, name: &'static str, help: &str) -> Family<'_> {
        self.family(name, "counter", help)
    }

    fn family(&mut self, name: &'static str, kind: &str, help: &str) -> Family<'_> {
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
        Family { out: &mut self.0, name }
    }

    pub(super) fn done(self) -> String {
        self.0
    }
}

impl Family<'_> {
    pub(super) fn sample(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.out.push_str(self.name);
        for (index, (label, text)) in labels.iter().enumerate() {
            let before = if index == 0 { '{' } else { ',' };
            let _ = write!(self.out, "{before}{label}=\"{}\"", escape(text));
        }
        let after = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.out, "{after} {value}");
    }
}

fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_may_hold_any_text() {
        let mut text = Text::default();
        text.gauges("ota_x", "A help.").sample(&[("a", "q\"\\\n"), ("b", "")], 1.5);
        assert_eq!(
            text.done(),
            "# HELP ota_x A help.\n# TYPE ota_x gauge\nota_x{a=\"q\\\"\\\\\\n\",b=\"\"} 1.5\n"
        );
    }
}
