//! Public data sets: where their homes are, what their files are called in the folder that the examples look in, and
//! how they are known to be whole. `outgrow data get` fetches them; the message about a missing file points there.

/// A public data set.
#[derive(Clone, Copy, Debug)]
pub struct PublicSet {
    /// Its name, which is the name of its folder.
    pub name: &'static str,
    /// What it is, and whose.
    pub about: &'static str,
    /// Where the files are: URLs are this and the file's name.
    pub home: &'static str,
    /// The files.
    pub files: &'static [PublicFile],
}

/// A file of a public data set.
#[derive(Clone, Copy, Debug)]
pub struct PublicFile {
    /// Its name, at home and here.
    pub name: &'static str,
    /// Its SHA-256 in hexadecimal digits, as those who use the set publish it; `None` where no source of it is known
    /// to us, so that only the length that the server states is checked.
    pub sha256: Option<&'static str>,
}

const fn file(name: &'static str, sha256: &'static str) -> PublicFile {
    PublicFile { name, sha256: Some(sha256) }
}

/// Every set.
pub const PUBLIC_SETS: &[PublicSet] = &[
    PublicSet {
        name: "mnist",
        about: "70,000 handwritten digits, by Yann LeCun and others (the mirror that torchvision uses)",
        home: "https://ossci-datasets.s3.amazonaws.com/mnist/",
        files: &[
            file(
                "train-images-idx3-ubyte.gz",
                "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            ),
            file(
                "train-labels-idx1-ubyte.gz",
                "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            ),
            file(
                "t10k-images-idx3-ubyte.gz",
                "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            ),
            file(
                "t10k-labels-idx1-ubyte.gz",
                "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
            ),
        ],
    },
    PublicSet {
        name: "fashion-mnist",
        about: "70,000 pictures of clothes in MNIST's format, by Zalando Research",
        home: "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        files: &[
            file(
                "train-images-idx3-ubyte.gz",
                "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            ),
            file(
                "train-labels-idx1-ubyte.gz",
                "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            ),
            file(
                "t10k-images-idx3-ubyte.gz",
                "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            ),
            file(
                "t10k-labels-idx1-ubyte.gz",
                "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
            ),
        ],
    },
    PublicSet {
        name: "cifar10",
        about: "60,000 small colour images of ten classes, by Alex Krizhevsky; as Parquet files of the Hugging Face Hub",
        home: "https://huggingface.co/datasets/uoft-cs/cifar10/resolve/main/plain_text/",
        files: &[
            PublicFile { name: "train-00000-of-00001.parquet", sha256: None },
            PublicFile { name: "test-00000-of-00001.parquet", sha256: None },
        ],
    },
    PublicSet {
        name: "adult",
        about: "who earns above 50,000 dollars (\"Census Income\"), of the UCI Machine Learning Repository",
        home: "https://archive.ics.uci.edu/ml/machine-learning-databases/adult/",
        files: &[
            file("adult.data", "5b00264637dbfec36bdeaab5676b0b309ff9eb788d63554ca0a249491c86603d"),
            file("adult.test", "a2a9044bc167a35b2361efbabec64e89d69ce82d9790d2980119aac5fd7e9c05"),
        ],
    },
    PublicSet {
        name: "tinyshakespeare",
        about: "a megabyte of Shakespeare, of Andrej Karpathy's repository `char-rnn`",
        home: "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",
        files: &[file("input.txt", "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed")],
    },
];

/// Where to get the data set that a path seems to belong to.
pub(crate) fn home_of(path: &str) -> Option<String> {
    let path = path.to_lowercase();
    // The longest name: `mnist` is a part of `fashion-mnist`.
    let set = PUBLIC_SETS.iter().filter(|set| path.contains(set.name)).max_by_key(|set| set.name.len())?;
    let files: Vec<&str> = set.files.iter().map(|file| file.name).collect();
    Some(format!(
        "`outgrow data get {name}` fetches {name} from {}; or put its files ({}) into a folder `{name}`, and say where that is with --data FOLDER or the variable OUTGROW_DATA",
        set.home,
        files.join(", "),
        name = set.name,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_well_formed_and_paths_lead_to_their_sets() {
        for set in PUBLIC_SETS {
            assert!(set.home.starts_with("http") && set.home.ends_with('/'), "{}", set.name);
            for file in set.files {
                let digits = |s: &str| s.len() == 64 && s.bytes().all(|b| b"0123456789abcdef".contains(&b));
                assert!(file.sha256.is_none_or(digits), "{}", file.name);
            }
        }
        for (path, expect) in [
            ("x/MNIST/train.gz", Some("get mnist`")),
            ("fashion-mnist/a", Some("get fashion-mnist`")),
            ("adult/adult.data", Some("get adult`")),
            ("mine.csv", None),
        ] {
            let found = home_of(path);
            assert!(
                expect.map_or(found.is_none(), |e| found.as_ref().is_some_and(|f| f.contains(e))),
                "{path}"
            );
        }
    }
}
