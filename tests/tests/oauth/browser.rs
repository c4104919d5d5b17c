//! A person's browser, as far as signing in needs one: it follows redirects, keeps cookies, and fills in forms.

use std::{collections::BTreeMap, sync::Mutex};

use reqwest::{Client, Method, StatusCode, Url, header, redirect::Policy};

/// A profile: what one person's browser remembers.
pub struct Browser {
    http: Client,
    /// By name. All servers here are on one host, and cookies do not know ports.
    cookies: Mutex<BTreeMap<String, String>>,
}

/// Where a browser stands.
#[derive(Debug)]
pub struct Page {
    pub url: Url,
    pub status: StatusCode,
    pub text: String,
}

impl Browser {
    pub fn new() -> Self {
        let http = Client::builder().redirect(Policy::none()).no_proxy().build().expect("a client");
        Self { http, cookies: Mutex::default() }
    }

    /// One request, and where it leads.
    pub async fn step(&self, method: Method, url: &Url, form: Option<&str>) -> (Page, Option<Url>) {
        let cookies: Vec<String> = {
            let kept = self.cookies.lock().expect("no test panicked here");
            kept.iter().map(|(name, value)| format!("{name}={value}")).collect()
        };
        let mut request = self.http.request(method, url.clone());
        if !cookies.is_empty() {
            request = request.header(header::COOKIE, cookies.join("; "));
        }
        if let Some(form) = form {
            let kind = "application/x-www-form-urlencoded";
            request = request.header(header::CONTENT_TYPE, kind).body(form.to_owned());
        }
        let answer = request.send().await.unwrap_or_else(|error| panic!("{url} answers: {error}"));
        for cookie in answer.headers().get_all(header::SET_COOKIE) {
            let text = cookie.to_str().expect("a cookie");
            let pair = text.split(';').next().and_then(|pair| pair.split_once('='));
            let (name, value) = pair.unwrap_or_else(|| panic!("not a cookie: {text}"));
            self.cookies.lock().expect("no test panicked here").insert(name.into(), value.into());
        }
        let next = answer.headers().get(header::LOCATION).filter(|_| answer.status().is_redirection());
        let next = next.map(|to| url.join(to.to_str().expect("an address")).expect("an address"));
        let status = answer.status();
        let text = answer.text().await.expect("a page");
        (Page { url: url.clone(), status, text }, next)
    }

    /// Opens a link and does what is asked: signs in, agrees. Ends at the page where nothing is left to do, or before a
    /// host that is not on this machine.
    pub async fn visit(&self, link: &str) -> Page {
        self.walk(link, |_| true).await
    }

    /// The same, but only as far as `enters` lets it.
    pub async fn walk(&self, link: &str, enters: impl Fn(&Url) -> bool) -> Page {
        let (mut method, mut form) = (Method::GET, None);
        let mut url = Url::parse(link).unwrap_or_else(|error| panic!("'{link}' is no link: {error}"));
        for _ in 0..30 {
            if url.host_str() != Some("127.0.0.1") || !enters(&url) {
                return Page { url, status: StatusCode::OK, text: String::new() };
            }
            let (page, next) = self.step(method, &url, form.as_deref()).await;
            (method, form) = (Method::GET, None);
            url = match (next, wanted(&page)) {
                (Some(next), _) => next,
                (None, Some((action, filled))) => {
                    (method, form) = (Method::POST, Some(filled));
                    action
                }
                (None, None) => return page,
            };
        }
        panic!("the browser goes in circles at {url}")
    }
}

/// What a page wants to have sent, and where to. The forms are those of a sign-in and of a consent.
fn wanted(page: &Page) -> Option<(Url, String)> {
    let attribute = |tag: &str, name: &str| {
        let value = tag.split_once(&format!("{name}=\""))?.1.split('"').next()?;
        Some(value.replace("&amp;", "&"))
    };
    let form = page.text.split_once("<form")?.1.split("</form>").next()?;
    let action = page.url.join(&attribute(form.split('>').next()?, "action")?).ok()?;
    let inputs = form.split("<input").skip(1).filter_map(|input| {
        let input = input.split('>').next()?;
        let value = attribute(input, "value").unwrap_or_else(|| "ada".into());
        Some(format!("{}={value}", attribute(input, "name")?))
    });
    Some((action, inputs.collect::<Vec<_>>().join("&")))
}
