import { lazy, Suspense, useState } from "react";

import horizon from "./assets/horizon.webp";
import mark from "./assets/mark.svg";

// A chunk of its own: the browser asks for it after the page is there, under a name with a hash.
const Steps = lazy(() => import("./Steps"));

const builtAt = new Date(__BUILT_AT__);
const builtAtText = new Intl.DateTimeFormat(undefined, { dateStyle: "long", timeStyle: "medium" }).format(builtAt);

export function App() {
  return (
    <>
      <div className="sky" style={{ backgroundImage: `url(${horizon})` }} aria-hidden="true" />
      <main>
        <header>
          <img src={mark} alt="" width="56" height="56" />
          <p className="greeting">{import.meta.env.VITE_GREETING || "It works."}</p>
          <h1>
            Built by <em>buildrunner</em>
          </h1>
          <p className="lead">
            A moment ago this page was a commit in a git repository. It was cloned, installed, built, and published to
            a bucket; what you see comes from there.
          </p>
        </header>

        <dl className="card">
          <div>
            <dt>Commit</dt>
            <dd>{__COMMIT_SHA__ ? <Commit id={__COMMIT_SHA__} /> : "a folder, without a commit"}</dd>
          </div>
          {__COMMIT_REF__ && (
            <div>
              <dt>Ref</dt>
              <dd>{__COMMIT_REF__}</dd>
            </div>
          )}
          <div>
            <dt>Built</dt>
            <dd>
              <time dateTime={__BUILT_AT__}>{builtAtText}</time>
            </dd>
          </div>
        </dl>

        <Suspense fallback={<p className="loading">Loading the steps…</p>}>
          <Steps />
        </Suspense>
      </main>
    </>
  );
}

/** Shows the short form of a commit's id; a click copies the whole. */
function Commit({ id }: { id: string }) {
  const [copied, setCopied] = useState(false);

  async function copy() {
    await navigator.clipboard.writeText(id);
    setCopied(true);
    setTimeout(() => setCopied(false), 1500);
  }

  return (
    <button type="button" onClick={() => void copy()} title={`Copy ${id}`}>
      <code>{id.slice(0, 12)}</code>
      <span aria-live="polite">{copied ? "copied" : "copy"}</span>
    </button>
  );
}
