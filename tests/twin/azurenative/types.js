// Reads the properties of some of azure-native's types from its package for Node, whose declarations
// the compiler understands, and prints them as JSON: see types.json.
//
//	NODE_PATH=bin/twin/node/node_modules node types.js module:Type...
const ts = require("typescript");
const path = require("path");

const root = path.dirname(require.resolve("@pulumi/azure-native/package.json"));
const file = (token) => {
    const [module, name] = token.split(":");
    return path.join(root, module, name[0].toLowerCase() + name.slice(1) + ".d.ts");
};
const tokens = process.argv.slice(2);
const program = ts.createProgram(tokens.map(file), { strict: true, skipLibCheck: true, module: ts.ModuleKind.NodeNext, moduleResolution: ts.ModuleResolutionKind.NodeNext, types: [] });
const checker = program.getTypeChecker();

// describe says what a value can be: string, number, boolean or any, {list}, {map} or {object}, in
// which a name with ? can be left out.
function describe(type, depth = 0) {
    if (depth > 12) return "any";
    if (type.aliasSymbol?.name === "Output") return describe(type.aliasTypeArguments[0], depth + 1);
    const parts = (type.isUnion() ? type.types : [type])
        .filter((t) => !(t.flags & (ts.TypeFlags.Undefined | ts.TypeFlags.Null)))
        .flatMap((t) => {
            // Input<T> is T, a promise of it or an output of it.
            const name = (t.aliasSymbol ?? t.symbol)?.name;
            return ["Promise", "OutputInstance", "OutputImpl"].includes(name) ? [] : [t];
        });
    if (parts.length === 0) return "any";
    for (const [flag, name] of [[ts.TypeFlags.StringLike, "string"], [ts.TypeFlags.NumberLike, "number"], [ts.TypeFlags.BooleanLike, "boolean"]]) {
        if (parts.some((t) => t.flags & flag)) return name;
    }
    if (parts.some((t) => t.flags & ts.TypeFlags.Any)) return "any";
    if (checker.isArrayType(parts[0])) return { list: describe(checker.getTypeArguments(parts[0])[0], depth + 1) };
    const index = checker.getIndexInfoOfType(parts[0], ts.IndexKind.String);
    if (index) return { map: describe(index.type, depth + 1) };
    return { object: members(parts, depth + 1) };
}

// members are the properties of an object; of one of several, those of all of them.
function members(parts, depth) {
    const all = {};
    for (const part of parts) {
        for (const property of checker.getPropertiesOfType(part)) {
            const everywhere = parts.every((t) => t.getProperty(property.name) && !(t.getProperty(property.name).flags & ts.SymbolFlags.Optional));
            all[property.name + (everywhere ? "" : "?")] = describe(checker.getTypeOfSymbol(property), depth);
        }
    }
    return Object.fromEntries(Object.entries(all).sort(([a], [b]) => (a < b ? -1 : 1)));
}

const out = { version: require("@pulumi/azure-native/package.json").version, types: {} };
for (const token of tokens) {
    const name = token.split(":")[1];
    const exported = Object.fromEntries(checker.getExportsOfModule(checker.getSymbolAtLocation(program.getSourceFile(file(token)))).map((s) => [s.name, s]));
    const state = {};
    for (const property of checker.getPropertiesOfType(checker.getDeclaredTypeOfSymbol(exported[name]))) {
        if (property.valueDeclaration && ts.isPropertyDeclaration(property.valueDeclaration) && property.name !== "urn" && property.name !== "id" && !property.name.startsWith("__"))
            state[property.name + "?"] = describe(checker.getTypeOfSymbol(property));
    }
    out.types[token] = { args: { object: members([checker.getDeclaredTypeOfSymbol(exported[name + "Args"])], 0) }, state: { object: state } };
}
console.log(JSON.stringify(out, null, 1));
