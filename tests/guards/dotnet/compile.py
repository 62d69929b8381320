"""Compiles C# with the libraries of `assemble.py`: `compile.py ASSEMBLED OUT.dll SOURCES…` (in the Python of `ASSEMBLED/bridge`).

Any warning is a failure, too.
"""
import os, pathlib, shutil, sys

os.environ["DOTNET_SYSTEM_GLOBALIZATION_INVARIANT"] = "1"
root, out, sources = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2]), sys.argv[3:]
from pythonnet import load
load("coreclr", dotnet_root=str(root / "dotnet"), runtime_config=str(root / "plain.runtimeconfig.json"))
import clr
sys.path.append(str(root / "compiler"))
clr.AddReference("Microsoft.CodeAnalysis")
clr.AddReference("Microsoft.CodeAnalysis.CSharp")
from System import Array
from System.IO import File
from System.Reflection import AssemblyName
from System.Text import Encoding
from Microsoft.CodeAnalysis import DiagnosticSeverity, MetadataReference, NullableContextOptions, OutputKind, SyntaxTree
from Microsoft.CodeAnalysis.CSharp import CSharpCompilation, CSharpCompilationOptions, CSharpParseOptions, CSharpSyntaxTree, LanguageVersion
from Microsoft.CodeAnalysis.Text import SourceText


def is_managed(path):
    try:
        return AssemblyName.GetAssemblyName(str(path)) is not None
    except Exception:
        return False


libraries = [path for folder in sorted((root / "dotnet/shared").glob("*/*")) for path in folder.glob("*.dll") if is_managed(path)]
# Of two copies the framework's own, which is listed last, counts.
libraries = {path.name: path for path in libraries}.values()
language = CSharpParseOptions.Default.WithLanguageVersion(LanguageVersion.CSharp12)
trees = [CSharpSyntaxTree.ParseText(SourceText.From(open(path, encoding="utf-8").read(), Encoding.UTF8), language, path) for path in sources]
options = CSharpCompilationOptions(OutputKind.ConsoleApplication).WithNullableContextOptions(NullableContextOptions.Enable)
references = [MetadataReference.CreateFromFile(str(path)) for path in libraries]
compilation = CSharpCompilation.Create(out.stem, Array[SyntaxTree](trees), Array[MetadataReference](references), options)
file = File.Create(str(out))
result = compilation.Emit(file)
file.Dispose()
found = [one for one in result.Diagnostics if one.Severity in (DiagnosticSeverity.Error, DiagnosticSeverity.Warning)]
for one in found[:25]:
    print(one.ToString(), file=sys.stderr)
if found or not result.Success:
    out.unlink()
    sys.exit(1)
shutil.copy(root / "web.runtimeconfig.json", out.with_suffix(".runtimeconfig.json"))
