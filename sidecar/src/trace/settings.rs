//! What OpenTelemetry's own variables of the environment say:
//! <https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/>.

use clap::Args;
use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;

/// The arguments of traces; nothing is exported without an endpoint.
#[derive(Debug, Clone, Default, Args)]
pub struct TraceArguments {
    /// Where OTLP goes over HTTP, such as http://collector:4318; `/v1/traces` is added.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT")]
    pub otlp_endpoint: Option<String>,
    /// The same for traces alone, with its path.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")]
    pub otlp_traces_endpoint: Option<String>,
    /// Headers of the export: name=value, separated by commas, percent-encoded.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_HEADERS", hide_env_values = true)]
    pub otlp_headers: Option<String>,
    /// Which traces that begin here are recorded: `always_on`, `always_off`, `traceidratio`, each also as `parentbased_…`.
    #[arg(long, env = "OTEL_TRACES_SAMPLER")]
    pub traces_sampler: Option<String>,
    /// The share for `traceidratio`, from 0 to 1.
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG")]
    pub traces_sampler_arg: Option<String>,
}

/// What they mean.
#[derive(Debug, Clone)]
pub struct TraceSettings {
    pub(crate) endpoint: Option<Endpoint>,
    pub(crate) sampler: Sampler,
}

/// Where spans go.
#[derive(Debug, Clone)]
pub(crate) struct Endpoint {
    /// `host:port`, to be looked up.
    pub(crate) authority: String,
    /// The path.
    pub(crate) path: Uri,
    /// What the request carries beside its own headers.
    pub(crate) headers: HeaderMap,
}

/// Which traces that begin here are recorded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Sampler {
    /// All.
    Always,
    /// None.
    Never,
    /// This share of them.
    Ratio(f64),
}

/// One of the variables is wrong.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{variable} {value:?} {rule}")]
pub struct InvalidTraces {
    variable: &'static str,
    value: String,
    rule: &'static str,
}

impl Sampler {
    /// Whether the trace with this id is recorded.
    pub(crate) fn samples(self, trace: &[u8; 16]) -> bool {
        let [.., a, b, c, d, e, f, g] = *trace;
        // The last 56 bits are random, W3C says.
        let random = u64::from_be_bytes([0, a, b, c, d, e, f, g]);
        match self {
            Self::Always => true,
            Self::Never => false,
            Self::Ratio(share) => random < (share * (1_u64 << 56) as f64) as u64,
        }
    }
}

impl TraceSettings {
    /// Checks them.
    ///
    /// # Errors
    /// At the first that is wrong.
    pub fn parse(arguments: &TraceArguments) -> Result<Self, InvalidTraces> {
        let headers = headers(arguments.otlp_headers.as_deref().unwrap_or_default())?;
        let given =
            |text: &Option<String>| text.as_deref().filter(|text| !text.is_empty()).map(str::to_owned);
        let endpoint = match (given(&arguments.otlp_traces_endpoint), given(&arguments.otlp_endpoint)) {
            (Some(url), _) => Some(endpoint("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &url, "", headers)?),
            (None, Some(url)) => Some(endpoint("OTEL_EXPORTER_OTLP_ENDPOINT", &url, "/v1/traces", headers)?),
            (None, None) => None,
        };
        let sampler = sampler(arguments.traces_sampler.as_deref(), arguments.traces_sampler_arg.as_deref())?;
        Ok(Self { endpoint, sampler })
    }
}

fn endpoint(
    variable: &'static str,
    url: &str,
    path: &str,
    headers: HeaderMap,
) -> Result<Endpoint, InvalidTraces> {
    let rule = "must be the URL of a collector over plain HTTP, such as http://collector:4318";
    let wrong = || InvalidTraces { variable, value: url.chars().take(128).collect(), rule };
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let (Some("http"), Some(authority)) = (uri.scheme_str(), uri.authority()) else { return Err(wrong()) };
    let path = format!("{}{path}", uri.path().trim_end_matches('/'));
    let path = if path.is_empty() { "/".to_owned() } else { path };
    Ok(Endpoint {
        authority: format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80)),
        path: path.parse().map_err(|_| wrong())?,
        headers,
    })
}

fn headers(text: &str) -> Result<HeaderMap, InvalidTraces> {
    // Its value may be a secret.
    let wrong = || InvalidTraces {
        variable: "OTEL_EXPORTER_OTLP_HEADERS",
        value: "…".to_owned(),
        rule: "must be name=value, separated by commas, each value percent-encoded",
    };
    let mut headers = HeaderMap::new();
    for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').ok_or_else(wrong)?;
        let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
        let value = percent_decode_str(value.trim()).decode_utf8().map_err(|_| wrong())?;
        let mut value = HeaderValue::from_str(&value).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.insert(name, value);
    }
    Ok(headers)
}

fn sampler(name: Option<&str>, share: Option<&str>) -> Result<Sampler, InvalidTraces> {
    let name = name.filter(|name| !name.is_empty()).unwrap_or("parentbased_always_on");
    match name.strip_prefix("parentbased_").unwrap_or(name) {
        "always_on" => Ok(Sampler::Always),
        "always_off" => Ok(Sampler::Never),
        "traceidratio" => {
            let text = share.unwrap_or("1");
            let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
            share.map(Sampler::Ratio).ok_or_else(|| InvalidTraces {
                variable: "OTEL_TRACES_SAMPLER_ARG",
                value: text.to_owned(),
                rule: "must be a number from 0 to 1",
            })
        }
        _ => Err(InvalidTraces {
            variable: "OTEL_TRACES_SAMPLER",
            value: name.to_owned(),
            rule: "must be always_on, always_off or traceidratio, or one of them after parentbased_",
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(endpoint: &str, headers: &str, name: &str, share: &str) -> Result<TraceSettings, InvalidTraces> {
        TraceSettings::parse(&TraceArguments {
            otlp_endpoint: Some(endpoint.to_owned()),
            otlp_headers: Some(headers.to_owned()),
            traces_sampler: Some(name.to_owned()),
            traces_sampler_arg: Some(share.to_owned()),
            otlp_traces_endpoint: None,
        })
    }

    #[test]
    fn the_standard_variables_are_understood() {
        let settings =
            parse("http://collector:4318/", "api-key=a%20b, x=1", "parentbased_traceidratio", "0.25")
                .unwrap();
        let endpoint = settings.endpoint.unwrap();
        assert_eq!((endpoint.authority.as_str(), endpoint.path.path()), ("collector:4318", "/v1/traces"));
        assert_eq!(
            (&endpoint.headers["api-key"], &endpoint.headers["x"]),
            (&"a b".parse().unwrap(), &"1".parse().unwrap())
        );
        assert_eq!(settings.sampler, Sampler::Ratio(0.25));
        assert!(parse("", "", "", "").unwrap().endpoint.is_none());
    }

    #[test]
    fn a_variable_that_is_wrong_is_named() {
        for (result, variable) in [
            (parse("https://collector", "", "", ""), "OTEL_EXPORTER_OTLP_ENDPOINT"),
            (parse("collector:4318", "", "", ""), "OTEL_EXPORTER_OTLP_ENDPOINT"),
            (parse("", "secret", "", ""), "OTEL_EXPORTER_OTLP_HEADERS"),
            (parse("", "", "sometimes", ""), "OTEL_TRACES_SAMPLER"),
            (parse("", "", "traceidratio", "2"), "OTEL_TRACES_SAMPLER_ARG"),
        ] {
            let text = result.unwrap_err().to_string();
            assert!(text.starts_with(&format!("{variable} ")) && !text.contains("secret"), "{text}");
        }
    }

    #[test]
    fn a_share_of_the_traces_is_recorded() {
        let mut id = [0; 16];
        assert!(Sampler::Ratio(0.5).samples(&id));
        id[9] = 0x80;
        assert!(!Sampler::Ratio(0.5).samples(&id));
        assert!(Sampler::Ratio(1.0).samples(&[0xff; 16]));
        assert!(!Sampler::Ratio(0.0).samples(&[0; 16]));
    }
}
