//! The page that a browser shows.

/// The page: one file that loads nothing but `/status.json`.
pub const PAGE: &str = include_str!("page.html");

/// The value of the header field Content-Security-Policy with [`PAGE`]: no code and no style but those of the page,
/// and no connection but to this server.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; \
     script-src 'sha256-XbvamCaAwkJbabZHIyv92sDtnmD2ith6BpVtjVwfOAs='; \
     style-src 'sha256-4/A19CaqqT7arKXmilGuL/0gz9tOVd/YzplZ6ed5dP4='; \
     connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

#[cfg(test)]
mod tests {
    use super::*;
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use sha2::{Digest, Sha256};

    /// The text of the only element of this name.
    fn element(name: &str) -> &'static str {
        let (_, rest) = PAGE.split_once(&format!("<{name}>")).unwrap();
        let (text, rest) = rest.split_once(&format!("</{name}>")).unwrap();
        assert!(!rest.contains(&format!("<{name}")), "one {name}");
        text
    }

    #[test]
    fn the_policy_has_the_hashes_of_script_and_style() {
        for name in ["script", "style"] {
            let mut hash = [0; 44];
            STANDARD.encode_slice(Sha256::digest(element(name)), &mut hash).unwrap();
            let expected = format!("{name}-src 'sha256-{}';", str::from_utf8(&hash).unwrap());
            assert!(CONTENT_SECURITY_POLICY.contains(&expected), "{expected}");
        }
        assert!(!CONTENT_SECURITY_POLICY.contains("unsafe"));
    }

    #[test]
    fn the_page_names_no_other_place_and_makes_no_markup_of_data() {
        // The namespace of SVG is a name, and loads nothing.
        let page = PAGE.replace("http://www.w3.org/2000/svg", "");
        for word in ["http:", "https:", "src=", "@import", "url(", "<link rel=\"stylesheet\""] {
            assert!(!page.contains(word), "{word}");
        }
        for word in
            ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "Function("]
        {
            assert!(!page.contains(word), "{word}");
        }
        // A handler or style in an attribute would need a policy that allows any.
        assert!(!page.contains(" style=\"") && !page.contains(" onclick"));
        assert!(page.len() < 64 * 1024, "{} bytes", page.len());
    }
}
