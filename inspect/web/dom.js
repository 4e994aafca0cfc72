// h describes the page, and patch applies the description. It changes only what differs, so
// that focus, selections and typed text survive updates.

const svgNS = "http://www.w3.org/2000/svg";

// h describes an element. Children may be nested arrays; null, false and true are ignored.
// A key matches the element with one of the previous description. With own, patch leaves the
// element's children alone.
export function h(tag, props, ...children) {
  return {tag, props: props || {}, children: children.flat(Infinity).filter((c) => c != null && typeof c !== "boolean")};
}

// patch changes the children of an element to match a description.
export function patch(parent, children, ns = parent.namespaceURI) {
  const keyed = new Map();
  for (const node of parent.childNodes) if (node.vKey != null) keyed.set(node.vKey, node);
  let at = parent.firstChild;
  for (const child of [children].flat(Infinity).filter((c) => c != null && typeof c !== "boolean")) {
    let node = null;
    if (typeof child !== "object") {
      const text = String(child);
      node = at?.nodeType === Node.TEXT_NODE ? at : document.createTextNode(text);
      if (node.data !== text) node.data = text;
    } else {
      const {tag, props} = child;
      const inner = tag === "svg" ? svgNS : ns;
      if (props.key != null) node = keyed.get(props.key);
      else if (at?.vTag === tag && at.vKey == null) node = at;
      if (node?.vTag !== tag) {
        node = document.createElementNS(inner, tag);
        node.vTag = tag;
        node.vKey = props.key ?? null;
        node.vProps = {};
      }
      keyed.delete(props.key);
      setProps(node, props);
      if (!props.own) patch(node, child.children, inner);
    }
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

const asProperties = new Set(["value", "checked", "disabled", "open", "selected"]);

function setProps(node, props) {
  const was = node.vProps;
  node.vProps = props;
  for (const name of new Set([...Object.keys(was), ...Object.keys(props)])) {
    const value = props[name];
    if (name === "key" || name === "own" || name === "created") continue;
    if (name.startsWith("on")) node[name] = value ?? null;
    else if (name === "style") for (const [k, v] of Object.entries(value ?? {})) node.style.setProperty(k, v);
    else if (was[name] === value && name in was) continue; // keep what the user has typed since
    else if (asProperties.has(name)) node[name] = value ?? (name === "value" ? "" : false);
    else if (value == null || value === false) node.removeAttribute(name);
    else node.setAttribute(name, value === true ? "" : value);
  }
  if (props.created && !was.created) props.created(node);
}

// link describes a link within the page.
export const link = (to, ...children) => h("a", {href: to}, children);

// path joins names to a route.
export const route = (...names) => "#/" + names.map(encodeURIComponent).join("/");
