"""What frameworks and bundlers say."""

from __future__ import annotations

import re

from buildrunner.diagnose.rule import FailedCommand, Rule


def _ci_warnings(failed: FailedCommand, _: str) -> str:
    if failed.environment.get("CI") == "false":
        return (
            "Warnings fail this build although CI=false was tried: its script sets CI itself. Correct the warnings, or remove"
            " CI from the script."
        )
    return (
        "Warnings fail this build, because CI=true is set. Correct what the lines above name, or set"
        f' BUILD_COMMAND="CI=false {failed.command}".'
    )


def _required_file(failed: FailedCommand, name: str) -> str:
    match = re.search(r"\n  Searched in: (\S{1,500})$", failed.text, re.MULTILINE)
    folder = match[1] if match else ""
    if failed.checkout and not folder.startswith(f"{failed.checkout}/"):
        folder = folder.rpartition("/")[2]
    path = f"{failed.relative(folder)}/{name}" if folder else name
    return (
        f"The build looks for {path}, which is not in the repository. Commit it (check .gitignore), or set ROOT_DIR to the app's"
        " folder."
    )


def _angular_typescript(failed: FailedCommand, name: str) -> str:
    wanted = re.sub(r" and (?=[<>=\d])", " ", name)
    return (
        f"Angular needs TypeScript {name}, and another version is installed. Run"
        f' `{failed.words["add_dev"]} "typescript@{wanted}"`, and commit package.json and the lockfile.'
    )


RULES: tuple[Rule, ...] = (
    Rule(
        "ci-warnings-as-errors",
        r"Treating warnings as errors because process\.env\.CI = true",
        _ci_warnings,
    ),
    Rule(
        "prisma-client-missing",
        r"did not initialize yet\. Please run \"prisma generate\"|Cannot find module '\.prisma/client"
        r"|Module '\"@prisma/client\"' has no exported member|Prisma has detected that this project was built on Vercel",
        'The Prisma client was not generated. Start the build script with it: "build": "prisma generate && …".',
    ),
    Rule(
        "next-static-params-missing",
        r"is missing (?:exported function )?\"generateStaticParams\(\)\"|\"generateStaticParams\(\)\", which is required",
        "A page of this Next.js app has parameters in its path ([id]), and a static site needs all their values."
        " Export generateStaticParams() from it.",
    ),
    Rule(
        "next-server-side-props",
        r"pages with `getServerSideProps` can not be exported",
        "A page of this Next.js app uses getServerSideProps, which needs a server. Use getStaticProps, or fetch"
        " the data in the browser.",
    ),
    Rule(
        "static-paths-missing",
        r"getStaticPaths\(\) is required for dynamic SSG pages|with `fallback` enabled in `getStaticPaths` can not be exported"
        r"|GetStaticPathsRequired|`getStaticPaths\(\)` function (?:is )?required",
        "A page has parameters in its path ([id]), and a static site needs all their values. Return them from"
        " getStaticPaths (in Next.js with fallback: false).",
    ),
    Rule(
        "next-needs-server",
        r"couldn't be rendered statically because it used `(?P<name>[^`\n]{1,60})`"
        r"|Page with `(?P<name2>dynamic = \"force-dynamic\")` couldn't be (?:exported|rendered statically)"
        r"|(?P<name3>Server Actions|Intercepting routes|export const dynamic = \"force-static\")[^\n]{0,120}\"?output: ?\"?export"
        r"|(?P<name4>rewrites|redirects|headers|middleware|i18n)[^\n]{0,80}(?:cannot|can not) be used with \"output: export\"",
        "The app uses {name}, which needs a server, but this Next.js app is exported as a static site. Remove it,"
        " or do the work in the browser.",
    ),
    Rule(
        "next-image-optimization",
        r"Image Optimization using (?:the )?(?:Next\.js' )?default loader is not compatible with",
        "Next.js optimizes images on a server, and a static site has none. Set images: {{ unoptimized: true }} in"
        " next.config.",
    ),
    Rule(
        "next-export-removed",
        r"`next export` has been removed in favor of",
        "Next.js 14 removed `next export`. Set output: 'export' in next.config, and remove `next export` from the"
        " script.",
    ),
    Rule(
        "next-suspense-missing",
        r"useSearchParams\(\) should be wrapped in a suspense boundary",
        "A component that calls useSearchParams() must be inside <Suspense>, because the page is rendered during"
        " the build. The lines above name the page.",
    ),
    Rule(
        "required-file-missing",
        r"Could not find a required file\.\s{1,10}Name: (?P<name>[\w.-]{1,100})\s",
        _required_file,
    ),
    Rule(
        "app-files-missing",
        r"Couldn't find any `pages` or `app` directory|Could not resolve entry module ['\"]?(?:\S{0,200}/)?index\.html"
        r"|Cannot resolve entry module index\.html",
        "The app's files are not where the build looks for them. Set ROOT_DIR to the app's folder, and check that"
        " they are committed.",
    ),
    Rule(
        "sveltekit-not-prerendered",
        r"all routes must be fully prerenderable|cannot have dynamic routes unless using the 'fallback'",
        "A static SvelteKit site needs prerendered pages. Add `export const prerender = true` to"
        " src/routes/+layout.js, or give adapter-static a fallback page.",
    ),
    Rule(
        "astro-needs-server",
        r"NoAdapterInstalled|Cannot use server-rendered pages without an adapter",
        "A page of this Astro site needs a server. Set output: 'static' in astro.config, and remove `prerender ="
        " false` from its pages.",
    ),
    Rule(
        "angular-budget-exceeded",
        r"exceeded maximum budget\. Budget [^\n]{1,100} was (?:not met|exceeded) by",
        'A bundle is larger than angular.json allows. Raise "budgets" there, or make the bundle smaller.',
    ),
    Rule(
        "tailwind-postcss-plugin",
        r"trying to use `?tailwindcss`? directly as a PostCSS plugin",
        "Tailwind CSS 4 has its PostCSS plugin in a separate package. Run `{add_dev} @tailwindcss/postcss`, and"
        " name it in the PostCSS configuration.",
    ),
    Rule(
        "cra-preflight-check",
        r"There might be a problem with the project dependency tree\.",
        "react-scripts found another version of a package than its own (the lines above name both). Remove that"
        " package from package.json and run `{install}`, or set BUILD_ENV_SKIP_PREFLIGHT_CHECK=true.",
    ),
    Rule(
        "typescript-missing",
        r"trying to use TypeScript but do not have (?:typescript installed|the required package\(s\) installed\.\s{1,4}Please)",
        "The app has a tsconfig.json or TypeScript files, but TypeScript is not installed. Run `{add_dev}"
        " typescript @types/react @types/node`, and commit package.json and the lockfile.",
    ),
    Rule(
        "vue-template-compiler-mismatch",
        r"^Vue packages version mismatch:",
        "The versions of vue and vue-template-compiler differ, but must be equal. Run `{add} vue@2.7"
        " vue-template-compiler@2.7`, and commit the lockfile.",
    ),
    Rule(
        "postcss-too-old",
        r"PostCSS plugin (?P<name>[\w./@-]{1,100}) requires PostCSS 8",
        "The plugin {name} needs PostCSS 8, and the build has an older version. Install the plugin's version for"
        " PostCSS 7 (autoprefixer 9, @tailwindcss/postcss7-compat), or update what brings PostCSS.",
    ),
    Rule(
        "loader-needs-webpack-5",
        r"this\.getOptions is not a function(?:\s{1,10}at [^\n]{0,60}\(\S{0,300}/node_modules/(?P<name>[\w.-]{1,100})/)?",
        "A loader{at} needs webpack 5, and the build has webpack 4. Install its last version for webpack 4"
        " (sass-loader 10, less-loader 7, css-loader 5, postcss-loader 4), and commit the lockfile.",
    ),
    Rule(
        "angular-typescript-version",
        r"The Angular Compiler requires TypeScript (?P<name>[^\n]{1,60}?) but",
        _angular_typescript,
    ),
    Rule(
        "vue-tsc-too-old-to-patch",
        r"Search string not found: \"/supportedTSExtensions",
        "This vue-tsc is too old for the installed TypeScript. Update it with `{add_dev} vue-tsc@latest`, and"
        " commit the lockfile.",
    ),
)
