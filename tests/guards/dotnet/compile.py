"""Compiles C# with the libraries of `assemble.py`: `compile.py [--generated] ASSEMBLED OUT.dll SOURCES…` (in the Python of `ASSEMBLED/bridge`).

A library among the sources is one more to compile against. Any warning is a failure, too, unless the code is generated.
"""
import os, pathlib, shutil, sys

os.environ["DOTNET_SYSTEM_GLOBALIZATION_INVARIANT"] = "1"
generated = "--generated" in sys.argv
root, out, *sources = (pathlib.Path(word) for word in sys.argv[1:] if word != "--generated")
root = root.resolve()
from pythonnet import load
load("coreclr", dotnet_root=str(root / "dotnet"), runtime_config=str(root / "plain.runtimeconfig.json"))
import clr
sys.path.append(str(root / "compiler"))
clr.AddReference("Microsoft.CodeAnalysis")
clr.AddReference("Microsoft.CodeAnalysis.CSharp")
from System import Array, String
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


given = [path for path in sources if path.suffix == ".dll"]
libraries = [path for folder in sorted((root / "dotnet/shared").glob("*/*")) for path in folder.glob("*.dll") if is_managed(path)]
# Of two copies the framework's own, which is listed last, counts.
libraries = {path.name: path for path in libraries + given}.values()
language = CSharpParseOptions.Default.WithLanguageVersion(LanguageVersion.CSharp12).WithPreprocessorSymbols(Array[String](["NET", "NET8_0_OR_GREATER", "NET9_0_OR_GREATER"]))
trees = [CSharpSyntaxTree.ParseText(SourceText.From(path.read_text("utf-8-sig"), Encoding.UTF8), language, str(path)) for path in sources if path not in given]
options = CSharpCompilationOptions(OutputKind.ConsoleApplication).WithNullableContextOptions(NullableContextOptions.Enable)
references = [MetadataReference.CreateFromFile(str(path)) for path in libraries]
compilation = CSharpCompilation.Create(out.stem, Array[SyntaxTree](trees), Array[MetadataReference](references), options)
file = File.Create(str(out))
result = compilation.Emit(file)
file.Dispose()
unwanted = [DiagnosticSeverity.Error] if generated else [DiagnosticSeverity.Error, DiagnosticSeverity.Warning]
found = [one for one in result.Diagnostics if one.Severity in unwanted]
for one in found[:25]:
    print(one.ToString(), file=sys.stderr)
if found or not result.Success:
    out.unlink()
    sys.exit(1)
shutil.copy(root / "web.runtimeconfig.json", out.with_suffix(".runtimeconfig.json"))
