//! Which of two formats a reader of the metrics is given.

use http::{HeaderMap, header};

/// How the metrics are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Format {
    /// Prometheus' text, 0.0.4.
    #[default]
    Plain,
    /// OpenMetrics 1.0.0.
    Open,
}

impl Format {
    /// OpenMetrics for who names it and likes it no less than plain text.
    pub(crate) fn accepted(headers: &HeaderMap) -> Self {
        let lines = headers.get_all(header::ACCEPT).into_iter().filter_map(|line| line.to_str().ok());
        let (mut open, mut plain) = (0.0, 0.0);
        for (format, liking) in lines.flat_map(|line| line.split(',')).filter_map(named) {
            let most: &mut f32 = if format == Self::Open { &mut open } else { &mut plain };
            *most = most.max(liking);
        }
        if open > 0.0 && open >= plain { Self::Open } else { Self::Plain }
    }

    /// For `Content-Type`.
    pub(crate) const fn media_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain; version=0.0.4; charset=utf-8",
            Self::Open => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The format that a part of `Accept` names, and how much it is liked, 0 to 1.
fn named(part: &str) -> Option<(Format, f32)> {
    let mut words = part.split(';').map(|word| word.trim().to_ascii_lowercase());
    let format = match words.next()?.as_str() {
        "text/plain" => Format::Plain,
        "application/openmetrics-text" => Format::Open,
        _ => return None,
    };
    let mut liking = 1.0;
    for word in words {
        match word.split_once('=') {
            Some(("q", value)) => liking = value.parse().ok()?,
            Some(("version", value)) if format == Format::Open && value != "1.0.0" => return None,
            _ => {}
        }
    }
    Some((format, liking))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accept: &[&'static str], expected: Format) {
        let mut headers = HeaderMap::new();
        for line in accept {
            headers.append(header::ACCEPT, http::HeaderValue::from_static(line));
        }
        assert_eq!(Format::accepted(&headers), expected, "{accept:?}");
    }

    #[test]
    fn openmetrics_is_for_who_asks_for_it_and_plain_text_for_all_others() {
        check(&[], Format::Plain);
        check(&["*/*"], Format::Plain);
        check(&["text/html,application/xhtml+xml,*/*;q=0.8"], Format::Plain);
        check(&["application/openmetrics-text"], Format::Open);
        check(&["text/plain;q=0.5", "Application/OpenMetrics-Text; version=1.0.0; q=0.6"], Format::Open);
        // Prometheus 2 and 3.
        check(
            &[
                "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
               text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            ],
            Format::Open,
        );
        check(
            &[
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=1.0.0;q=0.3",
            ],
            Format::Open,
        );
        // Without OpenMetrics among its protocols.
        check(&["text/plain;version=0.0.4;q=0.5,*/*;q=0.4"], Format::Plain);
        check(&["application/openmetrics-text;version=2.0.0"], Format::Plain);
        check(&["application/openmetrics-text;q=0"], Format::Plain);
        check(&["application/openmetrics-text;q=0.1,text/plain"], Format::Plain);
        check(&["application/openmetrics-text;q=much"], Format::Plain);
    }
}
