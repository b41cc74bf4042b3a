"""The fields of the built-in kinds as one compact table; `schema` reads it.

One type a paragraph: its name, then ``field:type`` with flags. Types: s string, i integer, f float, b bool,
q quantity, t time, u time with microseconds, B base64 bytes, I integer or string, x anything, ``[T]`` list,
``{T}`` map, or the name of another type. Flags: ``*`` optional by pointer, ``!`` always written, ``%`` left out when
zero, ``@key`` strategic merge by key (``@`` alone: as a set), ``^`` retainKeys, ``~`` a set, ``=`` replaced whole,
``#k+k`` the keys of a list of maps. A line ``= group/version`` names the API package of what follows.

Source: struct tags and markers in k8s.io/api and k8s.io/apimachinery v0.37, less what 1.36 does not serve;
for custom resources (where ``!`` means required) the CustomResourceDefinitions of kubernetes-csi/external-snapshotter
and kubernetes-sigs/gateway-api.
"""

from __future__ import annotations

TYPES = """
= meta/v1
DeleteOptions gracePeriodSeconds:i* preconditions:Preconditions* orphanDependents:b* propagationPolicy:s* dryRun:[s]=
  ignoreStoreReadErrorWithClusterBreakingPotential:b*
FieldSelectorRequirement key:s! operator:s! values:[s]=
LabelSelector matchLabels:{s} matchExpressions:[LabelSelectorRequirement]=
LabelSelectorRequirement key:s! operator:s! values:[s]=
ManagedFieldsEntry manager:s operation:s apiVersion:s time:t* fieldsType:s fieldsV1:x* subresource:s
ObjectMeta name:s generateName:s namespace:s selfLink:s uid:s resourceVersion:s generation:i creationTimestamp:t%
  deletionTimestamp:t* deletionGracePeriodSeconds:i* labels:{s} annotations:{s} ownerReferences:[OwnerReference]@uid
  finalizers:[s]@~ managedFields:[ManagedFieldsEntry]=
OwnerReference apiVersion:s! kind:s! name:s! uid:s! controller:b* blockOwnerDeletion:b*
Preconditions uid:s* resourceVersion:s*
= core/v1
AWSElasticBlockStoreVolumeSource volumeID:s! fsType:s partition:i readOnly:b
Affinity nodeAffinity:NodeAffinity* podAffinity:PodAffinity* podAntiAffinity:PodAntiAffinity*
AppArmorProfile type:s! localhostProfile:s*
AttachedVolume name:s! devicePath:s!
AzureDiskVolumeSource diskName:s! diskURI:s! cachingMode:s* fsType:s* readOnly:b* kind:s*
AzureFilePersistentVolumeSource secretName:s! shareName:s! readOnly:b secretNamespace:s*!
AzureFileVolumeSource secretName:s! shareName:s! readOnly:b
Binding metadata:ObjectMeta target:ObjectReference!
CSIPersistentVolumeSource driver:s! volumeHandle:s! readOnly:b fsType:s volumeAttributes:{s}
  controllerPublishSecretRef:SecretReference* nodeStageSecretRef:SecretReference*
  nodePublishSecretRef:SecretReference* controllerExpandSecretRef:SecretReference*
  nodeExpandSecretRef:SecretReference*
CSIVolumeSource driver:s! readOnly:b* fsType:s* volumeAttributes:{s} nodePublishSecretRef:LocalObjectReference*
Capabilities add:[s]= drop:[s]=
CephFSPersistentVolumeSource monitors:[s]!= path:s user:s secretFile:s secretRef:SecretReference* readOnly:b
CephFSVolumeSource monitors:[s]!= path:s user:s secretFile:s secretRef:LocalObjectReference* readOnly:b
CinderPersistentVolumeSource volumeID:s! fsType:s readOnly:b secretRef:SecretReference*
CinderVolumeSource volumeID:s! fsType:s readOnly:b secretRef:LocalObjectReference*
ClusterTrustBundleProjection name:s* signerName:s* labelSelector:LabelSelector* optional:b* path:s! user:i*
ConfigMap metadata:ObjectMeta immutable:b* data:{s} binaryData:{B}
ConfigMapEnvSource name:s optional:b*
ConfigMapKeySelector name:s key:s! optional:b*
ConfigMapNodeConfigSource namespace:s! name:s! uid:s resourceVersion:s kubeletConfigKey:s!
ConfigMapProjection name:s items:[KeyToPath]= optional:b*
ConfigMapVolumeSource name:s items:[KeyToPath]= defaultMode:i* optional:b* defaultUser:i*
Container name:s! image:s command:[s]= args:[s]= workingDir:s
  ports:[ContainerPort]@containerPort#containerPort+protocol envFrom:[EnvFromSource]= env:[EnvVar]@name
  resources:ResourceRequirements resizePolicy:[ContainerResizePolicy]= restartPolicy:s*
  restartPolicyRules:[ContainerRestartRule]= volumeMounts:[VolumeMount]@mountPath
  volumeDevices:[VolumeDevice]@devicePath livenessProbe:Probe* readinessProbe:Probe* startupProbe:Probe*
  lifecycle:Lifecycle* terminationMessagePath:s terminationMessagePolicy:s imagePullPolicy:s
  securityContext:SecurityContext* stdin:b stdinOnce:b tty:b
ContainerExtendedResourceRequest containerName:s! resourceName:s! requestName:s!
ContainerImage names:[s]!= sizeBytes:i
ContainerPort name:s hostPort:i containerPort:i! protocol:s hostIP:s
ContainerResizePolicy resourceName:s! restartPolicy:s!
ContainerRestartRule action:s exitCodes:ContainerRestartRuleOnExitCodes*
ContainerRestartRuleOnExitCodes operator:s values:[i]~
ContainerState waiting:ContainerStateWaiting* running:ContainerStateRunning* terminated:ContainerStateTerminated*
ContainerStateRunning startedAt:t
ContainerStateTerminated exitCode:i! signal:i reason:s message:s startedAt:t finishedAt:t containerID:s
ContainerStateWaiting reason:s message:s
ContainerStatus name:s! state:ContainerState lastState:ContainerState ready:b! restartCount:i! image:s! imageID:s!
  containerID:s started:b* allocatedResources:{q} resources:ResourceRequirements*
  volumeMounts:[VolumeMountStatus]@mountPath user:ContainerUser* allocatedResourcesStatus:[ResourceStatus]@name
  stopSignal:s*
ContainerUser linux:LinuxContainerUser*
DaemonEndpoint Port:i!
DownwardAPIProjection items:[DownwardAPIVolumeFile]=
DownwardAPIVolumeFile path:s! fieldRef:ObjectFieldSelector* resourceFieldRef:ResourceFieldSelector* mode:i* user:i*
DownwardAPIVolumeSource items:[DownwardAPIVolumeFile]= defaultMode:i* defaultUser:i*
EmptyDirVolumeSource medium:s sizeLimit:q* mode:i*
EnvFromSource prefix:s configMapRef:ConfigMapEnvSource* secretRef:SecretEnvSource*
EnvVar name:s! value:s valueFrom:EnvVarSource*
EnvVarSource fieldRef:ObjectFieldSelector* resourceFieldRef:ResourceFieldSelector*
  configMapKeyRef:ConfigMapKeySelector* secretKeyRef:SecretKeySelector* fileKeyRef:FileKeySelector*
EphemeralContainer name:s! image:s command:[s]= args:[s]= workingDir:s
  ports:[ContainerPort]@containerPort#containerPort+protocol envFrom:[EnvFromSource]= env:[EnvVar]@name
  resources:ResourceRequirements resizePolicy:[ContainerResizePolicy]= restartPolicy:s*
  restartPolicyRules:[ContainerRestartRule]= volumeMounts:[VolumeMount]@mountPath
  volumeDevices:[VolumeDevice]@devicePath livenessProbe:Probe* readinessProbe:Probe* startupProbe:Probe*
  lifecycle:Lifecycle* terminationMessagePath:s terminationMessagePolicy:s imagePullPolicy:s
  securityContext:SecurityContext* stdin:b stdinOnce:b tty:b targetContainerName:s
EphemeralVolumeSource volumeClaimTemplate:PersistentVolumeClaimTemplate*
Event metadata:ObjectMeta! involvedObject:ObjectReference! reason:s message:s source:EventSource firstTimestamp:t
  lastTimestamp:t count:i type:s eventTime:u series:EventSeries* action:s related:ObjectReference*
  reportingComponent:s! reportingInstance:s!
EventSeries count:i lastObservedTime:u
EventSource component:s host:s
EvictionResponder name:s! priority:i*!
ExecAction command:[s]=
FCVolumeSource targetWWNs:[s]= lun:i* fsType:s readOnly:b wwids:[s]=
FileKeySelector volumeName:s! path:s! key:s! optional:b*
FlexPersistentVolumeSource driver:s! fsType:s secretRef:SecretReference* readOnly:b options:{s}
FlexVolumeSource driver:s! fsType:s secretRef:LocalObjectReference* readOnly:b options:{s}
FlockerVolumeSource datasetName:s datasetUUID:s
GCEPersistentDiskVolumeSource pdName:s! fsType:s partition:i readOnly:b
GRPCAction port:i! service:s*! mode:s*
GitRepoVolumeSource repository:s! revision:s directory:s
GlusterfsPersistentVolumeSource endpoints:s! path:s! readOnly:b endpointsNamespace:s*
GlusterfsVolumeSource endpoints:s! path:s! readOnly:b
HTTPGetAction path:s port:I! host:s scheme:s httpHeaders:[HTTPHeader]= protocol:s*
HTTPHeader name:s! value:s!
HostAlias ip:s! hostnames:[s]=
HostIP ip:s!
HostPathVolumeSource path:s! type:s*
ISCSIPersistentVolumeSource targetPortal:s! iqn:s! lun:i! iscsiInterface:s fsType:s readOnly:b portals:[s]=
  chapAuthDiscovery:b chapAuthSession:b secretRef:SecretReference* initiatorName:s*
ISCSIVolumeSource targetPortal:s! iqn:s! lun:i! iscsiInterface:s fsType:s readOnly:b portals:[s]= chapAuthDiscovery:b
  chapAuthSession:b secretRef:LocalObjectReference* initiatorName:s*
ImageVolumeSource reference:s pullPolicy:s
ImageVolumeStatus imageRef:s
KeyToPath key:s! path:s! mode:i* user:i*
Lifecycle postStart:LifecycleHandler* preStop:LifecycleHandler* stopSignal:s*
LifecycleHandler exec:ExecAction* httpGet:HTTPGetAction* tcpSocket:TCPSocketAction* sleep:SleepAction*
LinuxContainerUser uid:i! gid:i! supplementalGroups:[i]=
LocalObjectReference name:s
LocalVolumeSource path:s! fsType:s*
ModifyVolumeStatus targetVolumeAttributesClassName:s status:s!
NFSVolumeSource server:s! path:s! readOnly:b
Namespace metadata:ObjectMeta spec:NamespaceSpec status:NamespaceStatus
NamespaceCondition type:s! status:s! lastTransitionTime:t reason:s message:s
NamespaceSpec finalizers:[s]=
NamespaceStatus phase:s conditions:[NamespaceCondition]@type
Node metadata:ObjectMeta spec:NodeSpec status:NodeStatus
NodeAddress type:s! address:s!
NodeAffinity requiredDuringSchedulingIgnoredDuringExecution:NodeSelector*
  preferredDuringSchedulingIgnoredDuringExecution:[PreferredSchedulingTerm]=
NodeAllocatableMappedResources name:s! quantity:q*!
NodeAllocatableOverheadResources name:s! perPod:q* perContainer:q*
NodeAllocatableResourceClaimStatus resourceClaimName:s! containers:[s]~ mapping:[NodeAllocatableMappedResources]@name
  overhead:[NodeAllocatableOverheadResources]@name
NodeCondition type:s! status:s! lastHeartbeatTime:t lastTransitionTime:t reason:s message:s
NodeConfigSource configMap:ConfigMapNodeConfigSource*
NodeConfigStatus assigned:NodeConfigSource* active:NodeConfigSource* lastKnownGood:NodeConfigSource* error:s
NodeDaemonEndpoints kubeletEndpoint:DaemonEndpoint
NodeFeatures supplementalGroupsPolicy:b*
NodePodPreemptionPolicy disableResizePreemption:[s]~
NodeRuntimeHandler name:s! features:NodeRuntimeHandlerFeatures*
NodeRuntimeHandlerFeatures recursiveReadOnlyMounts:b* userNamespaces:b*
NodeSelector nodeSelectorTerms:[NodeSelectorTerm]!=
NodeSelectorRequirement key:s! operator:s! values:[s]=
NodeSelectorTerm matchExpressions:[NodeSelectorRequirement]= matchFields:[NodeSelectorRequirement]=
NodeSpec podCIDR:s podCIDRs:[s]@~ providerID:s unschedulable:b taints:[Taint]= configSource:NodeConfigSource*
  externalID:s podPreemptionPolicy:NodePodPreemptionPolicy*
NodeStatus capacity:{q} allocatable:{q} phase:s conditions:[NodeCondition]@type addresses:[NodeAddress]@type
  daemonEndpoints:NodeDaemonEndpoints nodeInfo:NodeSystemInfo images:[ContainerImage]= volumesInUse:[s]=
  volumesAttached:[AttachedVolume]= config:NodeConfigStatus* runtimeHandlers:[NodeRuntimeHandler]=
  features:NodeFeatures* declaredFeatures:[s]=
NodeSwapStatus capacity:i*
NodeSystemInfo machineID:s! systemUUID:s! bootID:s! kernelVersion:s! osImage:s! containerRuntimeVersion:s!
  kubeletVersion:s! kubeProxyVersion:s! operatingSystem:s! architecture:s! swap:NodeSwapStatus*
ObjectFieldSelector apiVersion:s fieldPath:s!
ObjectReference kind:s namespace:s name:s uid:s apiVersion:s resourceVersion:s fieldPath:s
PersistentVolume metadata:ObjectMeta spec:PersistentVolumeSpec status:PersistentVolumeStatus
PersistentVolumeClaim metadata:ObjectMeta spec:PersistentVolumeClaimSpec status:PersistentVolumeClaimStatus
PersistentVolumeClaimCondition type:s! status:s! lastProbeTime:t lastTransitionTime:t reason:s message:s
PersistentVolumeClaimSpec accessModes:[s]= selector:LabelSelector* resources:VolumeResourceRequirements volumeName:s
  storageClassName:s* volumeMode:s* dataSource:TypedLocalObjectReference* dataSourceRef:TypedObjectReference*
  volumeAttributesClassName:s*
PersistentVolumeClaimStatus phase:s accessModes:[s]= capacity:{q} conditions:[PersistentVolumeClaimCondition]@type
  allocatedResources:{q} allocatedResourceStatuses:{s} currentVolumeAttributesClassName:s*
  modifyVolumeStatus:ModifyVolumeStatus*
PersistentVolumeClaimTemplate metadata:ObjectMeta spec:PersistentVolumeClaimSpec!
PersistentVolumeClaimVolumeSource claimName:s! readOnly:b
PersistentVolumeSpec capacity:{q} gcePersistentDisk:GCEPersistentDiskVolumeSource*
  awsElasticBlockStore:AWSElasticBlockStoreVolumeSource* hostPath:HostPathVolumeSource*
  glusterfs:GlusterfsPersistentVolumeSource* nfs:NFSVolumeSource* rbd:RBDPersistentVolumeSource*
  iscsi:ISCSIPersistentVolumeSource* cinder:CinderPersistentVolumeSource* cephfs:CephFSPersistentVolumeSource*
  fc:FCVolumeSource* flocker:FlockerVolumeSource* flexVolume:FlexPersistentVolumeSource*
  azureFile:AzureFilePersistentVolumeSource* vsphereVolume:VsphereVirtualDiskVolumeSource*
  quobyte:QuobyteVolumeSource* azureDisk:AzureDiskVolumeSource* photonPersistentDisk:PhotonPersistentDiskVolumeSource*
  portworxVolume:PortworxVolumeSource* scaleIO:ScaleIOPersistentVolumeSource* local:LocalVolumeSource*
  storageos:StorageOSPersistentVolumeSource* csi:CSIPersistentVolumeSource* accessModes:[s]= claimRef:ObjectReference*
  persistentVolumeReclaimPolicy:s storageClassName:s mountOptions:[s]= volumeMode:s* nodeAffinity:VolumeNodeAffinity*
  volumeAttributesClassName:s*
PersistentVolumeStatus phase:s message:s reason:s lastPhaseTransitionTime:t*
PhotonPersistentDiskVolumeSource pdID:s! fsType:s
Pod metadata:ObjectMeta spec:PodSpec status:PodStatus
PodAffinity requiredDuringSchedulingIgnoredDuringExecution:[PodAffinityTerm]=
  preferredDuringSchedulingIgnoredDuringExecution:[WeightedPodAffinityTerm]=
PodAffinityTerm labelSelector:LabelSelector* namespaces:[s]= topologyKey:s! namespaceSelector:LabelSelector*
  matchLabelKeys:[s]= mismatchLabelKeys:[s]=
PodAntiAffinity requiredDuringSchedulingIgnoredDuringExecution:[PodAffinityTerm]=
  preferredDuringSchedulingIgnoredDuringExecution:[WeightedPodAffinityTerm]=
PodCertificateProjection signerName:s keyType:s maxExpirationSeconds:i* credentialBundlePath:s keyPath:s
  certificateChainPath:s userAnnotations:{s} user:i*
PodCondition type:s! observedGeneration:i status:s! lastProbeTime:t lastTransitionTime:t reason:s message:s
PodDNSConfig nameservers:[s]= searches:[s]= options:[PodDNSConfigOption]=
PodDNSConfigOption name:s value:s*
PodExtendedResourceClaimStatus requestMappings:[ContainerExtendedResourceRequest]!= resourceClaimName:s!
PodIP ip:s!
PodOS name:s!
PodReadinessGate conditionType:s!
PodResourceClaim name:s! resourceClaimName:s* resourceClaimTemplateName:s*
PodResourceClaimStatus name:s! resourceClaimName:s*
PodSchedulingGate name:s!
PodSchedulingGroup podGroupName:s*
PodSecurityContext seLinuxOptions:SELinuxOptions* windowsOptions:WindowsSecurityContextOptions* runAsUser:i*
  runAsGroup:i* runAsNonRoot:b* supplementalGroups:[i]= supplementalGroupsPolicy:s* fsGroup:i* sysctls:[Sysctl]=
  fsGroupChangePolicy:s* seccompProfile:SeccompProfile* appArmorProfile:AppArmorProfile* seLinuxChangePolicy:s*
PodSpec volumes:[Volume]@name^ initContainers:[Container]@name containers:[Container]!@name
  ephemeralContainers:[EphemeralContainer]@name restartPolicy:s terminationGracePeriodSeconds:i*
  activeDeadlineSeconds:i* dnsPolicy:s nodeSelector:{s}= serviceAccountName:s serviceAccount:s
  automountServiceAccountToken:b* nodeName:s hostNetwork:b hostPID:b hostIPC:b shareProcessNamespace:b*
  securityContext:PodSecurityContext* imagePullSecrets:[LocalObjectReference]@name hostname:s subdomain:s
  affinity:Affinity* schedulerName:s tolerations:[Toleration]= hostAliases:[HostAlias]@ip priorityClassName:s
  priority:i* dnsConfig:PodDNSConfig* readinessGates:[PodReadinessGate]= runtimeClassName:s* enableServiceLinks:b*
  preemptionPolicy:s* overhead:{q}
  topologySpreadConstraints:[TopologySpreadConstraint]@topologyKey#topologyKey+whenUnsatisfiable setHostnameAsFQDN:b*
  os:PodOS* hostUsers:b* schedulingGates:[PodSchedulingGate]@name resourceClaims:[PodResourceClaim]@name^
  resources:ResourceRequirements* hostnameOverride:s* schedulingGroup:PodSchedulingGroup*
  evictionResponders:[EvictionResponder]@name
PodStatus observedGeneration:i phase:s conditions:[PodCondition]@type message:s reason:s nominatedNodeName:s hostIP:s
  hostIPs:[HostIP]@ip= podIP:s podIPs:[PodIP]@ip startTime:t* initContainerStatuses:[ContainerStatus]=
  containerStatuses:[ContainerStatus]= qosClass:s ephemeralContainerStatuses:[ContainerStatus]= resize:s
  resourceClaimStatuses:[PodResourceClaimStatus]@name^ extendedResourceClaimStatus:PodExtendedResourceClaimStatus*
  allocatedResources:{q} resources:ResourceRequirements*
  nodeAllocatableResourceClaimStatuses:[NodeAllocatableResourceClaimStatus]@resourceClaimName
  volumeHealth:[PodVolumeHealth]#name
PodVolumeHealth name:s! healthConditions:[VolumeHealthCondition]@status#status+reason lastTransitionTime:t
PortworxVolumeSource volumeID:s! fsType:s readOnly:b
PreferredSchedulingTerm weight:i! preference:NodeSelectorTerm!
Probe exec:ExecAction* httpGet:HTTPGetAction* tcpSocket:TCPSocketAction* grpc:GRPCAction* initialDelaySeconds:i
  timeoutSeconds:i periodSeconds:i successThreshold:i failureThreshold:i terminationGracePeriodSeconds:i*
ProjectedVolumeSource sources:[VolumeProjection]!= defaultMode:i* defaultUser:i*
QuobyteVolumeSource registry:s! volume:s! readOnly:b user:s group:s tenant:s
RBDPersistentVolumeSource monitors:[s]!= image:s! fsType:s pool:s user:s keyring:s secretRef:SecretReference*
  readOnly:b
RBDVolumeSource monitors:[s]!= image:s! fsType:s pool:s user:s keyring:s secretRef:LocalObjectReference* readOnly:b
ResourceClaim name:s! request:s
ResourceFieldSelector containerName:s resource:s! divisor:q
ResourceHealth resourceID:s! health:s message:s*
ResourceRequirements limits:{q} requests:{q} claims:[ResourceClaim]#name
ResourceStatus name:s! resources:[ResourceHealth]#resourceID
SELinuxOptions user:s role:s type:s level:s
ScaleIOPersistentVolumeSource gateway:s! system:s! secretRef:SecretReference*! sslEnabled:b protectionDomain:s
  storagePool:s storageMode:s volumeName:s fsType:s readOnly:b
ScaleIOVolumeSource gateway:s! system:s! secretRef:LocalObjectReference*! sslEnabled:b protectionDomain:s
  storagePool:s storageMode:s volumeName:s fsType:s readOnly:b
SeccompProfile type:s! localhostProfile:s*
Secret metadata:ObjectMeta immutable:b* data:{B} stringData:{s} type:s
SecretEnvSource name:s optional:b*
SecretKeySelector name:s key:s! optional:b*
SecretProjection name:s items:[KeyToPath]= optional:b*
SecretReference name:s namespace:s
SecretVolumeSource secretName:s items:[KeyToPath]= defaultMode:i* optional:b* defaultUser:i*
SecurityContext capabilities:Capabilities* privileged:b* seLinuxOptions:SELinuxOptions*
  windowsOptions:WindowsSecurityContextOptions* runAsUser:i* runAsGroup:i* runAsNonRoot:b* readOnlyRootFilesystem:b*
  allowPrivilegeEscalation:b* procMount:s* seccompProfile:SeccompProfile* appArmorProfile:AppArmorProfile*
ServiceAccount metadata:ObjectMeta secrets:[ObjectReference]@name imagePullSecrets:[LocalObjectReference]=
  automountServiceAccountToken:b*
ServiceAccountTokenProjection audience:s expirationSeconds:i* path:s! user:i*
SleepAction seconds:i!
StorageOSPersistentVolumeSource volumeName:s volumeNamespace:s fsType:s readOnly:b secretRef:ObjectReference*
StorageOSVolumeSource volumeName:s volumeNamespace:s fsType:s readOnly:b secretRef:LocalObjectReference*
Sysctl name:s! value:s!
TCPSocketAction port:I! host:s
Taint key:s! value:s effect:s! timeAdded:t*
Toleration key:s operator:s value:s effect:s tolerationSeconds:i*
TopologySelectorLabelRequirement key:s! values:[s]!=
TopologySelectorTerm matchLabelExpressions:[TopologySelectorLabelRequirement]=
TopologySpreadConstraint maxSkew:i! topologyKey:s! whenUnsatisfiable:s! labelSelector:LabelSelector* minDomains:i*
  nodeAffinityPolicy:s* nodeTaintsPolicy:s* matchLabelKeys:[s]=
TypedLocalObjectReference apiGroup:s*! kind:s! name:s!
TypedObjectReference apiGroup:s*! kind:s! name:s! namespace:s*
Volume name:s! hostPath:HostPathVolumeSource* emptyDir:EmptyDirVolumeSource*
  gcePersistentDisk:GCEPersistentDiskVolumeSource* awsElasticBlockStore:AWSElasticBlockStoreVolumeSource*
  gitRepo:GitRepoVolumeSource* secret:SecretVolumeSource* nfs:NFSVolumeSource* iscsi:ISCSIVolumeSource*
  glusterfs:GlusterfsVolumeSource* persistentVolumeClaim:PersistentVolumeClaimVolumeSource* rbd:RBDVolumeSource*
  flexVolume:FlexVolumeSource* cinder:CinderVolumeSource* cephfs:CephFSVolumeSource* flocker:FlockerVolumeSource*
  downwardAPI:DownwardAPIVolumeSource* fc:FCVolumeSource* azureFile:AzureFileVolumeSource*
  configMap:ConfigMapVolumeSource* vsphereVolume:VsphereVirtualDiskVolumeSource* quobyte:QuobyteVolumeSource*
  azureDisk:AzureDiskVolumeSource* photonPersistentDisk:PhotonPersistentDiskVolumeSource*
  projected:ProjectedVolumeSource* portworxVolume:PortworxVolumeSource* scaleIO:ScaleIOVolumeSource*
  storageos:StorageOSVolumeSource* csi:CSIVolumeSource* ephemeral:EphemeralVolumeSource* image:ImageVolumeSource*
VolumeDevice name:s! devicePath:s!
VolumeHealthCondition status:s! reason:s! message:s
VolumeHealthStatus healthConditions:[VolumeHealthCondition]@status#status+reason lastTransitionTime:t
VolumeMount name:s! readOnly:b recursiveReadOnly:s* mountPath:s! subPath:s mountPropagation:s* subPathExpr:s
  bindMountOptions:[s]~
VolumeMountStatus name:s! mountPath:s! readOnly:b recursiveReadOnly:s* volumeStatus:VolumeStatus*
VolumeNodeAffinity required:NodeSelector*
VolumeProjection secret:SecretProjection* downwardAPI:DownwardAPIProjection* configMap:ConfigMapProjection*
  serviceAccountToken:ServiceAccountTokenProjection* clusterTrustBundle:ClusterTrustBundleProjection*
  podCertificate:PodCertificateProjection*
VolumeResourceRequirements limits:{q} requests:{q}
VolumeStatus image:ImageVolumeStatus*
VsphereVirtualDiskVolumeSource volumePath:s! fsType:s storagePolicyName:s storagePolicyID:s
WeightedPodAffinityTerm weight:i! podAffinityTerm:PodAffinityTerm!
WindowsSecurityContextOptions gmsaCredentialSpecName:s* gmsaCredentialSpec:s* runAsUserName:s* hostProcess:b*
= events/v1
EventsEvent metadata:ObjectMeta! eventTime:u! series:EventsEventSeries* reportingController:s reportingInstance:s
  action:s reason:s regarding:ObjectReference related:ObjectReference* note:s type:s deprecatedSource:EventSource
  deprecatedFirstTimestamp:t deprecatedLastTimestamp:t deprecatedCount:i
EventsEventSeries count:i! lastObservedTime:u!
= storage/v1
CSIDriver metadata:ObjectMeta spec:CSIDriverSpec!
CSIDriverSpec attachRequired:b* podInfoOnMount:b* volumeLifecycleModes:[s]~ storageCapacity:b* fsGroupPolicy:s*
  tokenRequests:[TokenRequest]= requiresRepublish:b* seLinuxMount:b* nodeAllocatableUpdatePeriodSeconds:i*
  serviceAccountTokenInSecrets:b* preventPodSchedulingIfMissing:b*
CSINode metadata:ObjectMeta spec:CSINodeSpec!
CSINodeDriver name:s! nodeID:s! topologyKeys:[s]!= allocatable:VolumeNodeResources*
CSINodeSpec drivers:[CSINodeDriver]!@name
CSIStorageCapacity metadata:ObjectMeta nodeTopology:LabelSelector* storageClassName:s! capacity:q*
  maximumVolumeSize:q*
StorageClass metadata:ObjectMeta provisioner:s! parameters:{s} reclaimPolicy:s* mountOptions:[s]=
  allowVolumeExpansion:b* volumeBindingMode:s* allowedTopologies:[TopologySelectorTerm]=
StorageHealth name:s! healthConditions:[StorageHealthCondition]=
StorageHealthCondition status:s! reason:s! message:s accessMode:s* volumeMode:s* lastTransitionTime:t
TokenRequest audience:s! expirationSeconds:i*
VolumeAttachment metadata:ObjectMeta spec:VolumeAttachmentSpec! status:VolumeAttachmentStatus
VolumeAttachmentSource persistentVolumeName:s* inlineVolumeSpec:PersistentVolumeSpec*
VolumeAttachmentSpec attacher:s! source:VolumeAttachmentSource! nodeName:s!
VolumeAttachmentStatus attached:b! attachmentMetadata:{s} attachError:VolumeError* detachError:VolumeError*
VolumeAttributesClass metadata:ObjectMeta driverName:s! parameters:{s}
VolumeError time:t message:s errorCode:i*
VolumeNodeResources count:i*
= coordination/v1
Lease metadata:ObjectMeta spec:LeaseSpec
LeaseSpec holderIdentity:s* leaseDurationSeconds:i* acquireTime:u* renewTime:u* leaseTransitions:i* strategy:s*
  preferredHolder:s*
= rbac/v1
AggregationRule clusterRoleSelectors:[LabelSelector]=
ClusterRole metadata:ObjectMeta rules:[PolicyRule]!= aggregationRule:AggregationRule*
ClusterRoleBinding metadata:ObjectMeta subjects:[Subject]= roleRef:RoleRef!
PolicyRule verbs:[s]!= apiGroups:[s]= resources:[s]= resourceNames:[s]= nonResourceURLs:[s]=
Role metadata:ObjectMeta rules:[PolicyRule]!=
RoleBinding metadata:ObjectMeta subjects:[Subject]= roleRef:RoleRef!
RoleRef apiGroup:s! kind:s! name:s!
Subject kind:s! apiGroup:s name:s! namespace:s
= authorization/v1
FieldSelectorAttributes rawSelector:s requirements:[FieldSelectorRequirement]=
LabelSelectorAttributes rawSelector:s requirements:[LabelSelectorRequirement]=
LocalSubjectAccessReview metadata:ObjectMeta spec:SubjectAccessReviewSpec! status:SubjectAccessReviewStatus
NonResourceAttributes path:s verb:s
NonResourceRule verbs:[s]!= nonResourceURLs:[s]=
ResourceAttributes namespace:s verb:s group:s version:s resource:s subresource:s name:s
  fieldSelector:FieldSelectorAttributes* labelSelector:LabelSelectorAttributes*
ResourceRule verbs:[s]!= apiGroups:[s]= resources:[s]= resourceNames:[s]=
SelfSubjectAccessReview metadata:ObjectMeta spec:SelfSubjectAccessReviewSpec! status:SubjectAccessReviewStatus
SelfSubjectAccessReviewSpec resourceAttributes:ResourceAttributes* nonResourceAttributes:NonResourceAttributes*
SelfSubjectRulesReview metadata:ObjectMeta spec:SelfSubjectRulesReviewSpec! status:SubjectRulesReviewStatus
SelfSubjectRulesReviewSpec namespace:s
SubjectAccessReview metadata:ObjectMeta spec:SubjectAccessReviewSpec! status:SubjectAccessReviewStatus
SubjectAccessReviewSpec resourceAttributes:ResourceAttributes* nonResourceAttributes:NonResourceAttributes* user:s
  groups:[s]= extra:{[s]} uid:s
SubjectAccessReviewStatus allowed:b! denied:b reason:s evaluationError:s
SubjectRulesReviewStatus resourceRules:[ResourceRule]!= nonResourceRules:[NonResourceRule]!= incomplete:b!
  evaluationError:s
= authentication/v1
SelfSubjectReview metadata:ObjectMeta status:SelfSubjectReviewStatus
SelfSubjectReviewStatus userInfo:UserInfo
UserInfo username:s uid:s groups:[s]= extra:{[s]}
= snapshot.storage.k8s.io/v1
VolumeSnapshot metadata:ObjectMeta spec:VolumeSnapshotSpec! status:VolumeSnapshotStatus
VolumeSnapshotClass metadata:ObjectMeta driver:s! deletionPolicy:s! parameters:{s}
VolumeSnapshotContent metadata:ObjectMeta spec:VolumeSnapshotContentSpec! status:VolumeSnapshotContentStatus
VolumeSnapshotContentSource snapshotHandle:s volumeHandle:s
VolumeSnapshotContentSpec deletionPolicy:s! driver:s! source:VolumeSnapshotContentSource! sourceVolumeMode:s
  volumeSnapshotClassName:s volumeSnapshotRef:ObjectReference!
VolumeSnapshotContentStatus creationTime:i error:VolumeSnapshotError readyToUse:b restoreSize:i snapshotHandle:s
  volumeGroupSnapshotHandle:s
VolumeSnapshotError message:s time:t
VolumeSnapshotSource persistentVolumeClaimName:s volumeSnapshotContentName:s
VolumeSnapshotSpec source:VolumeSnapshotSource! volumeSnapshotClassName:s
VolumeSnapshotStatus boundVolumeSnapshotContentName:s creationTime:t error:VolumeSnapshotError readyToUse:b
  restoreSize:I volumeGroupSnapshotName:s
= gateway.networking.k8s.io/v1beta1
ReferenceGrant metadata:ObjectMeta spec:ReferenceGrantSpec
ReferenceGrantFrom group:s! kind:s! namespace:s!
ReferenceGrantSpec from:[ReferenceGrantFrom]!= to:[ReferenceGrantTo]!=
ReferenceGrantTo group:s! kind:s! name:s
"""
