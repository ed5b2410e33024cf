"""Find out how a checkout is built, without running any of it."""

from typing import TYPE_CHECKING

from buildrunner.lazy import export_lazily

if TYPE_CHECKING:
    from buildrunner.project.files import (
        is_inside as is_inside,
        parse_json as parse_json,
        read_json as read_json,
        read_text as read_text,
    )
    from buildrunner.project.frameworks.detection import legacy_openssl as legacy_openssl
    from buildrunner.project.node_version import (
        NodeRequirement as NodeRequirement,
        node_of_packages as node_of_packages,
    )
    from buildrunner.project.output.pages import (
        MOST_PAGE_BYTES as MOST_PAGE_BYTES,
        UNKNOWN_LANGUAGE as UNKNOWN_LANGUAGE,
        find_base_path as find_base_path,
        find_references as find_references,
        is_page as is_page,
        template_language as template_language,
    )
    from buildrunner.project.output.search import (
        Output as Output,
        Snapshot as Snapshot,
        find_output as find_output,
        take_snapshot as take_snapshot,
        warn_of_other_host as warn_of_other_host,
    )
    from buildrunner.project.package_managers.install import (
        DEPENDENCIES as DEPENDENCIES,
        LOCKFILES as LOCKFILES,
        SHELL as SHELL,
        Attempt as Attempt,
        Manager as Manager,
        Name as Name,
        failed_scripts as failed_scripts,
        install_attempts as install_attempts,
        lockfile_version as lockfile_version,
        npm_commands as npm_commands,
        own_commands as own_commands,
        package_of as package_of,
        scripted_packages as scripted_packages,
        skipped_by_pnpm as skipped_by_pnpm,
        table_of as table_of,
        without_mirrors as without_mirrors,
        without_scripts as without_scripts,
    )
    from buildrunner.project.package_managers.mirrors import (
        has_all_digests as has_all_digests,
        hosts_of_lockfile as hosts_of_lockfile,
        is_unreadable as is_unreadable,
        registry_settings as registry_settings,
        rewrite_lockfile as rewrite_lockfile,
        rewrite_settings as rewrite_settings,
        unreadable_hosts as unreadable_hosts,
        without_mirror_settings as without_mirror_settings,
    )
    from buildrunner.project.plan import BuildPlan as BuildPlan, plan_build as plan_build
    from buildrunner.project.versions import (
        intersects as intersects,
        major as major,
        numbers as numbers,
        satisfies as satisfies,
    )
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "files": "is_inside parse_json read_json read_text",
            "frameworks.detection": "legacy_openssl",
            "node_version": "NodeRequirement node_of_packages",
            "output.pages": (
                "MOST_PAGE_BYTES UNKNOWN_LANGUAGE find_base_path find_references is_page template_language"
            ),
            "output.search": "Output Snapshot find_output take_snapshot warn_of_other_host",
            "package_managers.install": (
                "DEPENDENCIES LOCKFILES SHELL Attempt Manager Name failed_scripts install_attempts "
                "lockfile_version npm_commands own_commands package_of scripted_packages skipped_by_pnpm "
                "table_of without_mirrors without_scripts"
            ),
            "package_managers.mirrors": (
                "has_all_digests hosts_of_lockfile is_unreadable registry_settings rewrite_lockfile "
                "rewrite_settings unreadable_hosts without_mirror_settings"
            ),
            "plan": "BuildPlan plan_build",
            "versions": "intersects major numbers satisfies",
        },
    )
