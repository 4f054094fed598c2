//! What an answer means for what is here: a pure function of status and headers (`update-sources.md` section 3).

use reqwest::{
    StatusCode,
    header::{CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HeaderMap, HeaderName},
};

use crate::TransferFault;

/// What was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked<'a> {
    /// First byte asked for; 0: the whole file, without a range.
    pub(crate) from: u64,
    /// Signed length.
    pub(crate) size: u64,
    /// Strong ETag of the file that the bytes here are from.
    pub(crate) tag: Option<&'a str>,
}

/// What to do with the answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The body goes on where we are.
    Append { tag: Option<String> },
    /// The body is the file from its start.
    StartOver { tag: Option<String> },
    /// Ranges do not work out here: forget what is here and ask for the whole file.
    Drop(&'static str),
    /// The body has another length than was signed.
    Length(u64),
    /// Not usable; whether to ask again is the fault's matter.
    Fault(TransferFault),
}

/// Judges an answer.
pub(crate) fn judge(status: StatusCode, headers: &HeaderMap, asked: Asked<'_>) -> Verdict {
    match status.as_u16() {
        200 | 206 if text(headers, &CONTENT_ENCODING).is_some_and(|coding| coding != "identity") => {
            Verdict::Fault(TransferFault::BadAnswer("content is encoded"))
        }
        200 => match length(headers) {
            Some(length) if length != asked.size => Verdict::Length(length),
            _ => Verdict::StartOver { tag: strong_tag(headers) },
        },
        206 if asked.from == 0 => Verdict::Fault(TransferFault::BadAnswer("a part, asked for the whole")),
        206 => partial(headers, asked),
        416 if asked.from > 0 => Verdict::Drop("the server has no such range"),
        code if code >= 400 => Verdict::Fault(TransferFault::Status(code)),
        _ => Verdict::Fault(TransferFault::BadAnswer("neither a file nor an error")),
    }
}

fn partial(headers: &HeaderMap, asked: Asked<'_>) -> Verdict {
    if text(headers, &CONTENT_TYPE).is_some_and(|kind| kind.starts_with("multipart/")) {
        return Verdict::Drop("several ranges, asked for one");
    }
    let tag = strong_tag(headers);
    if let (Some(known), Some(tag)) = (asked.tag, &tag)
        && known != tag
    {
        return Verdict::Drop("the file has changed");
    }
    let Some(range) = text(headers, &CONTENT_RANGE).and_then(ContentRange::parse) else {
        return Verdict::Drop("no readable Content-Range");
    };
    let fits = range.first == asked.from
        && (range.first..asked.size).contains(&range.last)
        && range.total.is_none_or(|total| total == asked.size)
        && length(headers).is_none_or(|length| length == range.last - range.first + 1);
    if fits {
        Verdict::Append { tag: tag.or_else(|| asked.tag.map(String::from)) }
    } else {
        Verdict::Drop("Content-Range does not fit")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ContentRange {
    first: u64,
    last: u64,
    total: Option<u64>,
}

impl ContentRange {
    /// `bytes 5-9/10`, `bytes 5-9/*`; some servers leave the unit out.
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix("bytes").map_or(text, |rest| rest.trim_start_matches([' ', '=']));
        let (range, total) = text.split_once('/')?;
        let (first, last) = range.trim().split_once('-')?;
        let total = match total.trim() {
            "*" => None,
            total => Some(number(total)?),
        };
        Some(Self { first: number(first)?, last: number(last)?, total })
    }
}

/// Digits only: `parse` alone would take a plus sign.
fn number(text: &str) -> Option<u64> {
    text.bytes().all(|c| c.is_ascii_digit()).then(|| text.parse().ok())?
}

fn length(headers: &HeaderMap) -> Option<u64> {
    text(headers, &CONTENT_LENGTH).and_then(number)
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

/// An ETag that may stand in `If-Range`: strong, quoted, of sane length.
fn strong_tag(headers: &HeaderMap) -> Option<String> {
    let tag = text(headers, &ETAG)?;
    let quoted = tag.len() > 2 && tag.len() <= 256 && tag.starts_with('"') && tag.ends_with('"');
    (quoted && tag.bytes().all(|c| (0x20..0x7f).contains(&c))).then(|| tag.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn verdict(status: u16, headers: &[(&'static str, &str)], from: u64) -> Verdict {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
        let asked = Asked { from, size: 1000, tag: Some("\"a\"") };
        judge(StatusCode::from_u16(status).unwrap(), &headers.collect(), asked)
    }

    #[test]
    fn a_part_is_appended_only_when_it_fits_exactly() {
        for range in [
            "bytes 400-999/1000",
            "bytes 400-999/*",
            "400-999/1000",
            "bytes 400-500/1000",
            "bytes=400-999/1000",
        ] {
            assert!(
                matches!(verdict(206, &[("content-range", range)], 400), Verdict::Append { .. }),
                "{range}"
            );
        }
        for range in [
            "bytes 0-999/1000",
            "bytes 401-999/1000",
            "bytes 399-999/1000",
            "bytes 400-1000/1001",
            "bytes 400-1000/1000",
            "bytes 400-999/1001",
            "bytes 400-399/1000",
            "bytes */1000",
            "bytes +400-999/1000",
            "lines 400-999/1000",
            "",
        ] {
            assert!(matches!(verdict(206, &[("content-range", range)], 400), Verdict::Drop(_)), "{range}");
        }
        let fits = ("content-range", "bytes 400-999/1000");
        assert!(matches!(verdict(206, &[fits, ("etag", "\"b\"")], 400), Verdict::Drop(_)), "a changed file");
        assert!(matches!(verdict(206, &[fits, ("etag", "\"a\"")], 400), Verdict::Append { tag: Some(_) }));
        assert!(matches!(verdict(206, &[fits, ("content-length", "601")], 400), Verdict::Drop(_)));
        assert!(matches!(verdict(206, &[fits, ("content-encoding", "gzip")], 400), Verdict::Fault(_)));
        let several = [fits, ("content-type", "multipart/byteranges; boundary=x")];
        assert!(matches!(verdict(206, &several, 400), Verdict::Drop(_)));
        assert!(matches!(verdict(206, &[], 400), Verdict::Drop(_)));
        assert!(matches!(verdict(206, &[fits], 0), Verdict::Fault(_)));
    }

    #[test]
    fn a_whole_file_starts_over_and_the_rest_is_named() {
        let tag = ("etag", "\"b\"");
        assert_eq!(verdict(200, &[tag], 400), Verdict::StartOver { tag: Some("\"b\"".into()) });
        assert_eq!(verdict(200, &[("etag", "W/\"b\"")], 0), Verdict::StartOver { tag: None });
        assert_eq!(verdict(200, &[("content-length", "1000")], 0), Verdict::StartOver { tag: None });
        assert_eq!(verdict(200, &[("content-length", "7")], 400), Verdict::Length(7));
        assert!(matches!(verdict(416, &[("content-range", "*/1000")], 400), Verdict::Drop(_)));
        for status in [403, 404, 416, 429, 500, 503] {
            assert_eq!(verdict(status, &[], 0), Verdict::Fault(TransferFault::Status(status)));
        }
        for status in [204, 304] {
            assert!(matches!(verdict(status, &[], 400), Verdict::Fault(TransferFault::BadAnswer(_))));
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(256))]
        #[test]
        fn any_content_range_is_judged_without_a_panic_and_never_appended_beyond_the_size(
            text in "(bytes )?[0-9*-]{0,22}/[0-9*]{0,21}"
        ) {
            if let Verdict::Append { .. } = verdict(206, &[("content-range", &text)], 400) {
                let range = ContentRange::parse(&text).unwrap();
                prop_assert!(range.first == 400 && range.last < 1000);
            }
        }
    }
}
