//! The text: each family once, with what it is before its samples.

use std::fmt::{Display, Write as _};

use super::Format;

/// The text so far.
pub(super) struct Text {
    out: String,
    format: Format,
}

/// One family, which takes its samples.
pub(super) struct Family<'a> {
    out: &'a mut String,
    name: &'static str,
}

impl Text {
    pub(super) const fn new(format: Format) -> Self {
        Self { out: String::new(), format }
    }

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
        // There it is the sample of a counter that ends in `_total`, not the family.
        let family = match self.format {
            Format::Open if kind == "counter" => name.strip_suffix("_total").unwrap_or(name),
            _ => name,
        };
        let _ = writeln!(self.out, "# HELP {family} {help}\n# TYPE {family} {kind}");
        Family { out: &mut self.out, name }
    }

    pub(super) fn done(mut self) -> String {
        if self.format == Format::Open {
            self.out.push_str("# EOF\n");
        }
        self.out
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
        let mut text = Text::new(Format::Plain);
        text.gauges("ota_x", "A help.").sample(&[("a", "q\"\\\n"), ("b", "")], 1.5);
        assert_eq!(
            text.done(),
            "# HELP ota_x A help.\n# TYPE ota_x gauge\nota_x{a=\"q\\\"\\\\\\n\",b=\"\"} 1.5\n"
        );
    }

    #[test]
    fn the_samples_of_a_counter_have_one_name_in_both_formats() {
        let written = |format| {
            let mut text = Text::new(format);
            text.counter("ota_x_total", "A help.", 7);
            text.done()
        };
        assert_eq!(
            written(Format::Plain),
            "# HELP ota_x_total A help.\n# TYPE ota_x_total counter\nota_x_total 7\n"
        );
        assert_eq!(
            written(Format::Open),
            "# HELP ota_x A help.\n# TYPE ota_x counter\nota_x_total 7\n# EOF\n"
        );
    }
}
