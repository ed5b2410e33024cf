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
    from buildrunner.project.frameworks.openssl import needs_legacy_openssl as needs_legacy_openssl
    from buildrunner.project.frameworks.record import DetectedFramework as DetectedFramework
    from buildrunner.project.frameworks.table import find_base_setting as find_base_setting
    from buildrunner.project.node_version import (
        NodeRequirement as NodeRequirement,
        find_node_of_packages as find_node_of_packages,
    )
    from buildrunner.project.output.named import find_named_output as find_named_output
    from buildrunner.project.output.pages import (
        MAX_PAGE_BYTES as MAX_PAGE_BYTES,
        UNKNOWN_LANGUAGE as UNKNOWN_LANGUAGE,
        find_base_path as find_base_path,
        find_references as find_references,
        is_page as is_page,
        template_language as template_language,
    )
    from buildrunner.project.output.search import (
        Output as Output,
        find_output as find_output,
        warn_of_other_host as warn_of_other_host,
    )
    from buildrunner.project.output.snapshot import Snapshot as Snapshot, take_snapshot as take_snapshot
    from buildrunner.project.package_json import (
        DEPENDENCY_TABLES as DEPENDENCY_TABLES,
        get_table as get_table,
        has_install_scripts as has_install_scripts,
        read_package as read_package,
    )
    from buildrunner.project.package_managers.bun import WRITE_TEXT_LOCKFILE as WRITE_TEXT_LOCKFILE
    from buildrunner.project.package_managers.install import (
        find_failed_scripts as find_failed_scripts,
        list_strategies as list_strategies,
        list_own_scripts as list_own_scripts,
        without_scripts as without_scripts,
    )
    from buildrunner.project.package_managers.lockfiles import (
        read_format_version as read_format_version,
        read_lockfile as read_lockfile,
        read_lockfile_or_empty as read_lockfile_or_empty,
    )
    from buildrunner.project.package_managers.mirrors import (
        find_lockfile_hosts as find_lockfile_hosts,
        find_registry_settings as find_registry_settings,
        find_unreadable_hosts as find_unreadable_hosts,
        has_all_digests as has_all_digests,
        is_registry_unreadable as is_registry_unreadable,
        replace_mirrors_in_settings as replace_mirrors_in_settings,
        rewrite_lockfile as rewrite_lockfile,
        rewrite_settings as rewrite_settings,
    )
    from buildrunner.project.package_managers.record import (
        SHELL as SHELL,
        DownloadCache as DownloadCache,
        InstallStrategy as InstallStrategy,
        ManagerRequirement as ManagerRequirement,
        PackageManager as PackageManager,
    )
    from buildrunner.project.package_managers.registry_urls import replace_mirrors as replace_mirrors
    from buildrunner.project.package_managers.table import (
        CONFIG_FILES as CONFIG_FILES,
        DEFAULT_MANAGER as DEFAULT_MANAGER,
        MANAGERS as MANAGERS,
        PACKAGE_MANAGERS as PACKAGE_MANAGERS,
    )
    from buildrunner.project.overrides import Overrides as Overrides
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
            "frameworks.openssl": "needs_legacy_openssl",
            "frameworks.record": "DetectedFramework",
            "frameworks.table": "find_base_setting",
            "node_version": "NodeRequirement find_node_of_packages",
            "output.named": "find_named_output",
            "output.pages": (
                "MAX_PAGE_BYTES UNKNOWN_LANGUAGE find_base_path find_references is_page template_language"
            ),
            "output.search": "Output find_output warn_of_other_host",
            "output.snapshot": "Snapshot take_snapshot",
            "package_json": "DEPENDENCY_TABLES get_table has_install_scripts read_package",
            "package_managers.bun": "WRITE_TEXT_LOCKFILE",
            "package_managers.install": "find_failed_scripts list_strategies list_own_scripts without_scripts",
            "package_managers.lockfiles": "read_format_version read_lockfile read_lockfile_or_empty",
            "package_managers.mirrors": (
                "find_lockfile_hosts find_registry_settings find_unreadable_hosts has_all_digests "
                "is_registry_unreadable replace_mirrors_in_settings rewrite_lockfile rewrite_settings"
            ),
            "package_managers.record": "SHELL DownloadCache InstallStrategy ManagerRequirement PackageManager",
            "package_managers.registry_urls": "replace_mirrors",
            "package_managers.table": "CONFIG_FILES DEFAULT_MANAGER MANAGERS PACKAGE_MANAGERS",
            "overrides": "Overrides",
            "plan": "BuildPlan plan_build",
            "versions": "intersects major numbers satisfies",
        },
    )
