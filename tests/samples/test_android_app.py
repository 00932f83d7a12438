"""samples/android without Gradle: what its files say of each other is true."""

from pathlib import Path
import re
from xml.etree import ElementTree

from tflite_smart.delegates import cross_build

APP = Path(__file__).resolve().parents[2] / "samples" / "android"
MAIN = APP / "app" / "src" / "main"
SOURCES = "\n".join(path.read_text() for path in sorted(MAIN.rglob("*.kt")))
ANDROID = "{http://schemas.android.com/apk/res/android}"


def test_resources_that_are_used_are_there():
    used = set(re.findall(r"\bR\.(string|id|layout)\.(\w+)", SOURCES))
    strings = {("string", s.get("name")) for s in ElementTree.parse(MAIN / "res/values/strings.xml").iter("string")}
    layout = ElementTree.parse(MAIN / "res/layout/activity_main.xml")
    there = strings | {("id", e.get(f"{ANDROID}id").removeprefix("@+id/")) for e in layout.iter() if e.get(f"{ANDROID}id")} | {("layout", "activity_main")}
    assert used and used <= there
    mentioned = re.findall(r"@string/(\w+)", (MAIN / "AndroidManifest.xml").read_text() + (MAIN / "res/layout/activity_main.xml").read_text())
    assert {("string", name) for name in mentioned} <= strings


def test_activity_and_package_are_those_of_the_manifest():
    name = next(ElementTree.parse(MAIN / "AndroidManifest.xml").iter("activity")).get(f"{ANDROID}name")
    assert f"class {name.removeprefix('.')} :" in SOURCES
    namespace = re.search(r'namespace = "([^"]+)"', (APP / "app" / "build.gradle.kts").read_text())[1]
    for path in [*MAIN.rglob("*.kt"), *(APP / "app" / "src" / "test").rglob("*.kt")]:
        assert path.read_text().startswith(f"package {namespace}\n") and str(path.parent).endswith(namespace.replace(".", "/"))


def test_app_and_delegate_fit_together():
    app, module = (APP / "app" / "build.gradle.kts").read_text(), (cross_build.SOURCES / "android" / "build.gradle.kts").read_text()
    assert f"minSdk = {cross_build.ANDROID_API}\n" in app
    version = r"com\.google\.ai\.edge\.litert:litert(?:-api)?:([\d.]+)"
    assert re.findall(version, app) == re.findall(version, module) != []
    folder = re.search(r'projectDir = file\("([^"]+)"\)', (APP / "settings.gradle.kts").read_text())[1]
    assert (APP / folder).resolve() == cross_build.SOURCES / "android"
