//! What everybody needs of a page, looked up in the page as the browser shows it (WCAG 2.2, AA).

use serde_json::Value;

use crate::driver::{Browser, variable};

/// Everything that is wrong with the page that is shown, each as one line.
const CHECKS: &str = r#"
const wrong = [];
const say = (what, element) => wrong.push(what + ': ' + element.outerHTML.slice(0, 120));
const all = (selector) => [...document.querySelectorAll(selector)];
const seen = (e) => e.checkVisibility({visibilityProperty: true}) && e.getClientRects().length > 0;
const name = (e) => (e.getAttribute('aria-label') || e.innerText || e.value || (e.querySelector('img[alt]') || {}).alt || '').trim();

if (!document.documentElement.lang) wrong.push('no language');
if (!document.title.includes('·')) wrong.push('no title of its own: ' + document.title);
if (all('main').length !== 1) wrong.push('not one main');
if (all('h1').length !== 1) wrong.push('not one h1');
let level = 0;
for (const heading of all('h1,h2,h3,h4,h5,h6').filter(seen)) {
  const now = Number(heading.tagName[1]);
  if (now > level + 1) say('a heading is left out', heading);
  level = now;
}
const ids = all('[id]').map((e) => e.id);
if (new Set(ids).size !== ids.length) wrong.push('an id is there twice: ' + ids.filter((id, n) => ids.indexOf(id) !== n));
for (const e of all('input:not([type=hidden]),select,textarea')) {
  if (!e.labels || !e.labels.length || !e.labels[0].textContent.trim()) say('no label', e);
}
for (const e of all('[aria-describedby],[aria-labelledby]')) {
  for (const id of ((e.getAttribute('aria-describedby') || '') + ' ' + (e.getAttribute('aria-labelledby') || '')).split(/\s+/).filter(Boolean)) {
    if (!document.getElementById(id)) say('refers to nothing', e);
  }
}
for (const e of all('a,button,summary').filter(seen)) if (!name(e)) say('no name', e);
for (const e of all('img')) if (!e.hasAttribute('alt')) say('no alternative', e);
for (const e of all('svg')) if (e.getAttribute('aria-hidden') !== 'true' && !e.getAttribute('aria-label')) say('no name', e);
for (const e of all('th')) if (!e.scope) say('a head without scope', e);
for (const e of all('[tabindex]')) if (e.tabIndex > 0) say('an order of its own', e);
for (const e of all('[role=region]')) if (!e.getAttribute('aria-label')) say('a region without name', e);
for (const e of all('button,.button,nav a,input:not([type=hidden]),select').filter(seen)) {
  const box = e.getBoundingClientRect();
  if (box.height < 24 || box.width < 24) say('too small to be hit', e);
}
const width = document.documentElement.clientWidth;
if (document.documentElement.scrollWidth > width) {
  const wide = all('body *').filter((e) => seen(e) && e.getBoundingClientRect().right > width + 1);
  wrong.push('wider than the window: ' + wide.slice(0, 3).map((e) => e.outerHTML.slice(0, 80)).join(' | '));
}

const channels = (text) => {
  const parts = text.match(/[\d.]+/g).map(Number);
  return parts.length < 4 ? [...parts.slice(0, 3), 1] : parts;
};
const over = (top, below) => [0, 1, 2].map((n) => top[n] * top[3] + below[n] * (1 - top[3])).concat(1);
const light = (c) => {
  const [r, g, b] = c.map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const ground = (e) => {
  const layers = [];
  for (; e; e = e.parentElement) {
    const layer = channels(getComputedStyle(e).backgroundColor);
    layers.push(layer);
    if (layer[3] === 1) break;
  }
  return layers.reduceRight((below, layer) => over(layer, below), [255, 255, 255, 1]);
};
const contrast = (a, b) => { const [x, y] = [light(a), light(b)].sort((p, q) => q - p); return (x + 0.05) / (y + 0.05); };
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const e = walker.currentNode.parentElement;
  if (!walker.currentNode.data.trim() || !seen(e) || e.closest('svg,.hidden,.skip')) continue;
  const style = getComputedStyle(e);
  const size = parseFloat(style.fontSize);
  const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
  const below = ground(e);
  const ratio = contrast(over(channels(style.color), below), below);
  if (ratio < (large ? 3 : 4.5)) say('contrast ' + ratio.toFixed(2), e);
}
for (const e of all('input:not([type=hidden]),select,textarea').filter(seen)) {
  const ratio = contrast(channels(getComputedStyle(e).borderTopColor), ground(e.parentElement));
  if (ratio < 3) say('a border of contrast ' + ratio.toFixed(2), e);
}
return [...new Set(wrong)];
"#;

/// Panics with everything that is wrong with the page that is shown.
pub(crate) fn check(browser: &Browser, page: &str) {
    let wrong = browser.run(CHECKS);
    assert_eq!(wrong, Value::Array(Vec::new()), "{page}");
    if let Some(path) = variable("AXE_JS") {
        let axe = std::fs::read_to_string(path).unwrap();
        // It answers later: the script waits for it.
        browser.run(&format!("{axe}\nwindow.axe = axe;"));
        let found = browser.run(
            "return axe.run().then((all) => all.violations.map((v) => v.id + ': ' + v.help + ' ' + \
             v.nodes.slice(0, 3).map((n) => n.html.slice(0, 120)).join(' | ')));",
        );
        assert_eq!(found, Value::Array(Vec::new()), "{page}, by axe");
    }
}

#[test]
fn the_checks_find_what_is_wrong() {
    let Some(browser) = Browser::start("data:") else { return };
    for (page, expected) in [
        ("<h1>a</h1><h3>b</h3>", "a heading is left out"),
        ("<input>", "no label"),
        ("<button></button>", "no name"),
        ("<img src=x>", "no alternative"),
        ("<p style='color:%23999'>pale</p>", "contrast 2.8"),
        ("<p style='width:3000px'>wide</p>", "wider than the window"),
        ("<i id=a></i><i id=a></i>", "an id is there twice"),
        ("<table><tr><th>x</th></tr></table>", "a head without scope"),
        ("<div role=region>x</div>", "a region without name"),
        ("<p>x</p>", "no language"),
    ] {
        browser.open(&format!("text/html,<!doctype html><title>t</title>{page}"));
        let wrong = browser.run(CHECKS).to_string();
        assert!(wrong.contains(expected), "{expected} is not in {wrong}");
    }
}
