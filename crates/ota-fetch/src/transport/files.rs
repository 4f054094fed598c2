//! `file://` URLs, for repair in the field: a folder instead of a server, with the same answers.

use std::{io::SeekFrom, path::PathBuf};

use bytes::{Bytes, BytesMut};
use futures_util::{StreamExt as _, stream};
use reqwest::{
    StatusCode,
    header::{CONTENT_LENGTH, CONTENT_RANGE, HeaderMap, HeaderValue},
};
use tokio::{
    fs::File,
    io::{AsyncReadExt as _, AsyncSeekExt as _},
};

use super::{Answer, Ask, TransferError, TransferFault, Url};

const CHUNK: usize = 256 * 1024;

/// Answers as a server would.
pub(crate) async fn get(ask: Ask) -> Result<Answer, TransferError> {
    let url = ask.url;
    let Ok(path) = url.to_file_path() else {
        return Err(TransferError::new(&url, TransferFault::BadAnswer("not a path on this device")));
    };
    let failed = |source| TransferError::caused(&url, TransferFault::Connect, source);
    let (mut file, length) = match open(path).await {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(answer(StatusCode::NOT_FOUND, HeaderMap::new())),
        Err(error) => return Err(failed(error)),
    };
    let mut headers = HeaderMap::new();
    if ask.from >= length && ask.from > 0 {
        headers.insert(CONTENT_RANGE, number(format!("bytes */{length}")));
        return Ok(answer(StatusCode::RANGE_NOT_SATISFIABLE, headers));
    }
    file.seek(SeekFrom::Start(ask.from)).await.map_err(failed)?;
    headers.insert(CONTENT_LENGTH, number((length - ask.from).to_string()));
    let mut status = StatusCode::OK;
    if ask.from > 0 {
        status = StatusCode::PARTIAL_CONTENT;
        headers.insert(CONTENT_RANGE, number(format!("bytes {}-{}/{length}", ask.from, length - 1)));
    }
    Ok(Answer { body: read(file, url), ..answer(status, headers) })
}

async fn open(path: PathBuf) -> std::io::Result<Option<(File, u64)>> {
    match File::open(path).await {
        Ok(file) => {
            let about = file.metadata().await?;
            Ok(about.is_file().then_some((file, about.len())))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn read(file: File, url: Url) -> stream::BoxStream<'static, Result<Bytes, TransferError>> {
    stream::try_unfold((file, url), |(mut file, url)| async move {
        let mut buffer = BytesMut::with_capacity(CHUNK);
        let got = file.read_buf(&mut buffer).await;
        match got.map_err(|error| TransferError::caused(&url, TransferFault::Reset, error))? {
            0 => Ok(None),
            _ => Ok(Some((buffer.freeze(), (file, url)))),
        }
    })
    .boxed()
}

fn answer(status: StatusCode, headers: HeaderMap) -> Answer {
    Answer { status, headers, body: stream::empty().boxed() }
}

fn number(text: String) -> HeaderValue {
    HeaderValue::try_from(text).unwrap_or(HeaderValue::from_static(""))
}
