"""The field numbers of the built-in kinds in protobuf; `protobuf` reads it.

One type a paragraph: its name, then ``number=field``. ``number>Type`` is a message whose fields JSON shows as the
parent's own. What the fields hold says `schema_data`.

Source: struct tags in k8s.io/api and k8s.io/apimachinery v0.37.
"""

from __future__ import annotations

NUMBERS = """
AWSElasticBlockStoreVolumeSource 1=volumeID 2=fsType 3=partition 4=readOnly
Affinity 1=nodeAffinity 2=podAffinity 3=podAntiAffinity
AggregationRule 1=clusterRoleSelectors
AppArmorProfile 1=type 2=localhostProfile
AttachedVolume 1=name 2=devicePath
AzureDiskVolumeSource 1=diskName 2=diskURI 3=cachingMode 4=fsType 5=readOnly 6=kind
AzureFilePersistentVolumeSource 1=secretName 2=shareName 3=readOnly 4=secretNamespace
AzureFileVolumeSource 1=secretName 2=shareName 3=readOnly
Binding 1=metadata 2=target
CSIDriver 1=metadata 2=spec
CSIDriverSpec 1=attachRequired 2=podInfoOnMount 3=volumeLifecycleModes 4=storageCapacity 5=fsGroupPolicy
  6=tokenRequests 7=requiresRepublish 8=seLinuxMount 9=nodeAllocatableUpdatePeriodSeconds
  10=serviceAccountTokenInSecrets 11=preventPodSchedulingIfMissing
CSINode 1=metadata 2=spec 3=status
CSINodeDriver 1=name 2=nodeID 3=topologyKeys 4=allocatable
CSINodeSpec 1=drivers
CSINodeStatus 1=storageHealth
CSIPersistentVolumeSource 1=driver 2=volumeHandle 3=readOnly 4=fsType 5=volumeAttributes 6=controllerPublishSecretRef
  7=nodeStageSecretRef 8=nodePublishSecretRef 9=controllerExpandSecretRef 10=nodeExpandSecretRef
CSIStorageCapacity 1=metadata 2=nodeTopology 3=storageClassName 4=capacity 5=maximumVolumeSize
CSIVolumeSource 1=driver 2=readOnly 3=fsType 4=volumeAttributes 5=nodePublishSecretRef
Capabilities 1=add 2=drop
CephFSPersistentVolumeSource 1=monitors 2=path 3=user 4=secretFile 5=secretRef 6=readOnly
CephFSVolumeSource 1=monitors 2=path 3=user 4=secretFile 5=secretRef 6=readOnly
CinderPersistentVolumeSource 1=volumeID 2=fsType 3=readOnly 4=secretRef
CinderVolumeSource 1=volumeID 2=fsType 3=readOnly 4=secretRef
ClusterRole 1=metadata 2=rules 3=aggregationRule
ClusterRoleBinding 1=metadata 2=subjects 3=roleRef
ClusterTrustBundleProjection 1=name 2=signerName 3=labelSelector 5=optional 4=path 6=user
ConfigMap 1=metadata 4=immutable 2=data 3=binaryData
ConfigMapEnvSource 1>LocalObjectReference 2=optional
ConfigMapKeySelector 1>LocalObjectReference 2=key 3=optional
ConfigMapNodeConfigSource 1=namespace 2=name 3=uid 4=resourceVersion 5=kubeletConfigKey
ConfigMapProjection 1>LocalObjectReference 2=items 4=optional
ConfigMapVolumeSource 1>LocalObjectReference 2=items 3=defaultMode 4=optional 5=defaultUser
Container 1=name 2=image 3=command 4=args 5=workingDir 6=ports 19=envFrom 7=env 8=resources 23=resizePolicy
  24=restartPolicy 25=restartPolicyRules 9=volumeMounts 21=volumeDevices 10=livenessProbe 11=readinessProbe
  22=startupProbe 12=lifecycle 13=terminationMessagePath 20=terminationMessagePolicy 14=imagePullPolicy
  15=securityContext 16=stdin 17=stdinOnce 18=tty
ContainerExtendedResourceRequest 1=containerName 2=resourceName 3=requestName
ContainerImage 1=names 2=sizeBytes
ContainerPort 1=name 2=hostPort 3=containerPort 4=protocol 5=hostIP
ContainerResizePolicy 1=resourceName 2=restartPolicy
ContainerRestartRule 1=action 2=exitCodes
ContainerRestartRuleOnExitCodes 1=operator 2=values
ContainerState 1=waiting 2=running 3=terminated
ContainerStateRunning 1=startedAt
ContainerStateTerminated 1=exitCode 2=signal 3=reason 4=message 5=startedAt 6=finishedAt 7=containerID
ContainerStateWaiting 1=reason 2=message
ContainerStatus 1=name 2=state 3=lastState 4=ready 5=restartCount 6=image 7=imageID 8=containerID 9=started
  10=allocatedResources 11=resources 12=volumeMounts 13=user 14=allocatedResourcesStatus 15=stopSignal
ContainerUser 1=linux
DaemonEndpoint 1=Port
DeleteOptions 1=gracePeriodSeconds 2=preconditions 3=orphanDependents 4=propagationPolicy 5=dryRun
  6=ignoreStoreReadErrorWithClusterBreakingPotential
DownwardAPIProjection 1=items
DownwardAPIVolumeFile 1=path 2=fieldRef 3=resourceFieldRef 4=mode 5=user
DownwardAPIVolumeSource 1=items 2=defaultMode 3=defaultUser
EmptyDirVolumeSource 1=medium 2=sizeLimit 3=mode
EnvFromSource 1=prefix 2=configMapRef 3=secretRef
EnvVar 1=name 2=value 3=valueFrom
EnvVarSource 1=fieldRef 2=resourceFieldRef 3=configMapKeyRef 4=secretKeyRef 5=fileKeyRef
EphemeralContainer 1>EphemeralContainerCommon 2=targetContainerName
EphemeralContainerCommon 1=name 2=image 3=command 4=args 5=workingDir 6=ports 19=envFrom 7=env 8=resources
  23=resizePolicy 24=restartPolicy 25=restartPolicyRules 9=volumeMounts 21=volumeDevices 10=livenessProbe
  11=readinessProbe 22=startupProbe 12=lifecycle 13=terminationMessagePath 20=terminationMessagePolicy
  14=imagePullPolicy 15=securityContext 16=stdin 17=stdinOnce 18=tty
EphemeralVolumeSource 1=volumeClaimTemplate
Event 1=metadata 2=involvedObject 3=reason 4=message 5=source 6=firstTimestamp 7=lastTimestamp 8=count 9=type
  10=eventTime 11=series 12=action 13=related 14=reportingComponent 15=reportingInstance
EventSeries 1=count 2=lastObservedTime
EventSource 1=component 2=host
EventsEvent 1=metadata 2=eventTime 3=series 4=reportingController 5=reportingInstance 6=action 7=reason 8=regarding
  9=related 10=note 11=type 12=deprecatedSource 13=deprecatedFirstTimestamp 14=deprecatedLastTimestamp
  15=deprecatedCount
EventsEventSeries 1=count 2=lastObservedTime
EvictionResponder 1=name 2=priority
ExecAction 1=command
FCVolumeSource 1=targetWWNs 2=lun 3=fsType 4=readOnly 5=wwids
FieldSelectorAttributes 1=rawSelector 2=requirements
FieldSelectorRequirement 1=key 2=operator 3=values
FileKeySelector 1=volumeName 2=path 3=key 4=optional
FlexPersistentVolumeSource 1=driver 2=fsType 3=secretRef 4=readOnly 5=options
FlexVolumeSource 1=driver 2=fsType 3=secretRef 4=readOnly 5=options
FlockerVolumeSource 1=datasetName 2=datasetUUID
GCEPersistentDiskVolumeSource 1=pdName 2=fsType 3=partition 4=readOnly
GRPCAction 1=port 2=service 3=mode
GitRepoVolumeSource 1=repository 2=revision 3=directory
GlusterfsPersistentVolumeSource 1=endpoints 2=path 3=readOnly 4=endpointsNamespace
GlusterfsVolumeSource 1=endpoints 2=path 3=readOnly
HTTPGetAction 1=path 2=port 3=host 4=scheme 5=httpHeaders 6=protocol
HTTPHeader 1=name 2=value
HostAlias 1=ip 2=hostnames
HostIP 1=ip
HostPathVolumeSource 1=path 2=type
ISCSIPersistentVolumeSource 1=targetPortal 2=iqn 3=lun 4=iscsiInterface 5=fsType 6=readOnly 7=portals
  8=chapAuthDiscovery 11=chapAuthSession 10=secretRef 12=initiatorName
ISCSIVolumeSource 1=targetPortal 2=iqn 3=lun 4=iscsiInterface 5=fsType 6=readOnly 7=portals 8=chapAuthDiscovery
  11=chapAuthSession 10=secretRef 12=initiatorName
ImageVolumeSource 1=reference 2=pullPolicy
ImageVolumeStatus 1=imageRef
KeyToPath 1=key 2=path 3=mode 4=user
LabelSelector 1=matchLabels 2=matchExpressions
LabelSelectorAttributes 1=rawSelector 2=requirements
LabelSelectorRequirement 1=key 2=operator 3=values
Lease 1=metadata 2=spec
LeaseSpec 1=holderIdentity 2=leaseDurationSeconds 3=acquireTime 4=renewTime 5=leaseTransitions 6=strategy
  7=preferredHolder
Lifecycle 1=postStart 2=preStop 3=stopSignal
LifecycleHandler 1=exec 2=httpGet 3=tcpSocket 4=sleep
LinuxContainerUser 1=uid 2=gid 3=supplementalGroups
LocalObjectReference 1=name
LocalSubjectAccessReview 1=metadata 2=spec 3=status
LocalVolumeSource 1=path 2=fsType
ManagedFieldsEntry 1=manager 2=operation 3=apiVersion 4=time 6=fieldsType 7=fieldsV1 8=subresource
ModifyVolumeStatus 1=targetVolumeAttributesClassName 2=status
NFSVolumeSource 1=server 2=path 3=readOnly
Namespace 1=metadata 2=spec 3=status
NamespaceCondition 1=type 2=status 4=lastTransitionTime 5=reason 6=message
NamespaceSpec 1=finalizers
NamespaceStatus 1=phase 2=conditions
Node 1=metadata 2=spec 3=status
NodeAddress 1=type 2=address
NodeAffinity 1=requiredDuringSchedulingIgnoredDuringExecution 2=preferredDuringSchedulingIgnoredDuringExecution
NodeAllocatableMappedResources 1=name 2=quantity
NodeAllocatableOverheadResources 1=name 2=perPod 3=perContainer
NodeAllocatableResourceClaimStatus 1=resourceClaimName 2=containers 4=mapping 5=overhead
NodeCondition 1=type 2=status 3=lastHeartbeatTime 4=lastTransitionTime 5=reason 6=message
NodeConfigSource 2=configMap
NodeConfigStatus 1=assigned 2=active 3=lastKnownGood 4=error
NodeDaemonEndpoints 1=kubeletEndpoint
NodeFeatures 1=supplementalGroupsPolicy
NodePodPreemptionPolicy 1=disableResizePreemption
NodeRuntimeHandler 1=name 2=features
NodeRuntimeHandlerFeatures 1=recursiveReadOnlyMounts 2=userNamespaces
NodeSelector 1=nodeSelectorTerms
NodeSelectorRequirement 1=key 2=operator 3=values
NodeSelectorTerm 1=matchExpressions 2=matchFields
NodeSpec 1=podCIDR 7=podCIDRs 3=providerID 4=unschedulable 5=taints 6=configSource 2=externalID 8=podPreemptionPolicy
NodeStatus 1=capacity 2=allocatable 3=phase 4=conditions 5=addresses 6=daemonEndpoints 7=nodeInfo 8=images
  9=volumesInUse 10=volumesAttached 11=config 12=runtimeHandlers 13=features 14=declaredFeatures
NodeSwapStatus 1=capacity
NodeSystemInfo 1=machineID 2=systemUUID 3=bootID 4=kernelVersion 5=osImage 6=containerRuntimeVersion 7=kubeletVersion
  8=kubeProxyVersion 9=operatingSystem 10=architecture 11=swap
NonResourceAttributes 1=path 2=verb
NonResourceRule 1=verbs 2=nonResourceURLs
ObjectFieldSelector 1=apiVersion 2=fieldPath
ObjectMeta 1=name 2=generateName 3=namespace 4=selfLink 5=uid 6=resourceVersion 7=generation 8=creationTimestamp
  9=deletionTimestamp 10=deletionGracePeriodSeconds 11=labels 12=annotations 13=ownerReferences 14=finalizers
  17=managedFields
ObjectReference 1=kind 2=namespace 3=name 4=uid 5=apiVersion 6=resourceVersion 7=fieldPath
OwnerReference 5=apiVersion 1=kind 3=name 4=uid 6=controller 7=blockOwnerDeletion
PersistentVolume 1=metadata 2=spec 3=status
PersistentVolumeClaim 1=metadata 2=spec 3=status
PersistentVolumeClaimCondition 1=type 2=status 3=lastProbeTime 4=lastTransitionTime 5=reason 6=message
PersistentVolumeClaimSpec 1=accessModes 4=selector 2=resources 3=volumeName 5=storageClassName 6=volumeMode
  7=dataSource 8=dataSourceRef 9=volumeAttributesClassName
PersistentVolumeClaimStatus 1=phase 2=accessModes 3=capacity 4=conditions 5=allocatedResources
  7=allocatedResourceStatuses 8=currentVolumeAttributesClassName 9=modifyVolumeStatus 10=healthStatus
PersistentVolumeClaimTemplate 1=metadata 2=spec
PersistentVolumeClaimVolumeSource 1=claimName 2=readOnly
PersistentVolumeSource 1=gcePersistentDisk 2=awsElasticBlockStore 3=hostPath 4=glusterfs 5=nfs 6=rbd 7=iscsi 8=cinder
  9=cephfs 10=fc 11=flocker 12=flexVolume 13=azureFile 14=vsphereVolume 15=quobyte 16=azureDisk
  17=photonPersistentDisk 18=portworxVolume 19=scaleIO 20=local 21=storageos 22=csi
PersistentVolumeSpec 1=capacity 2>PersistentVolumeSource 3=accessModes 4=claimRef 5=persistentVolumeReclaimPolicy
  6=storageClassName 7=mountOptions 8=volumeMode 9=nodeAffinity 10=volumeAttributesClassName
PersistentVolumeStatus 1=phase 2=message 3=reason 4=lastPhaseTransitionTime
PhotonPersistentDiskVolumeSource 1=pdID 2=fsType
Pod 1=metadata 2=spec 3=status
PodAffinity 1=requiredDuringSchedulingIgnoredDuringExecution 2=preferredDuringSchedulingIgnoredDuringExecution
PodAffinityTerm 1=labelSelector 2=namespaces 3=topologyKey 4=namespaceSelector 5=matchLabelKeys 6=mismatchLabelKeys
PodAntiAffinity 1=requiredDuringSchedulingIgnoredDuringExecution 2=preferredDuringSchedulingIgnoredDuringExecution
PodCertificateProjection 1=signerName 2=keyType 3=maxExpirationSeconds 4=credentialBundlePath 5=keyPath
  6=certificateChainPath 7=userAnnotations 8=user
PodCondition 1=type 7=observedGeneration 2=status 3=lastProbeTime 4=lastTransitionTime 5=reason 6=message
PodDNSConfig 1=nameservers 2=searches 3=options
PodDNSConfigOption 1=name 2=value
PodExtendedResourceClaimStatus 1=requestMappings 2=resourceClaimName
PodIP 1=ip
PodOS 1=name
PodReadinessGate 1=conditionType
PodResourceClaim 1=name 3=resourceClaimName 4=resourceClaimTemplateName
PodResourceClaimStatus 1=name 2=resourceClaimName
PodSchedulingGate 1=name
PodSchedulingGroup 1=podGroupName
PodSecurityContext 1=seLinuxOptions 8=windowsOptions 2=runAsUser 6=runAsGroup 3=runAsNonRoot 4=supplementalGroups
  12=supplementalGroupsPolicy 5=fsGroup 7=sysctls 9=fsGroupChangePolicy 10=seccompProfile 11=appArmorProfile
  13=seLinuxChangePolicy
PodSpec 1=volumes 20=initContainers 2=containers 34=ephemeralContainers 3=restartPolicy
  4=terminationGracePeriodSeconds 5=activeDeadlineSeconds 6=dnsPolicy 7=nodeSelector 8=serviceAccountName
  9=serviceAccount 21=automountServiceAccountToken 10=nodeName 11=hostNetwork 12=hostPID 13=hostIPC
  27=shareProcessNamespace 14=securityContext 15=imagePullSecrets 16=hostname 17=subdomain 18=affinity
  19=schedulerName 22=tolerations 23=hostAliases 24=priorityClassName 25=priority 26=dnsConfig 28=readinessGates
  29=runtimeClassName 30=enableServiceLinks 31=preemptionPolicy 32=overhead 33=topologySpreadConstraints
  35=setHostnameAsFQDN 36=os 37=hostUsers 38=schedulingGates 39=resourceClaims 40=resources 41=hostnameOverride
  43=schedulingGroup 44=evictionResponders
PodStatus 17=observedGeneration 1=phase 2=conditions 3=message 4=reason 11=nominatedNodeName 5=hostIP 16=hostIPs
  6=podIP 12=podIPs 7=startTime 10=initContainerStatuses 8=containerStatuses 9=qosClass 13=ephemeralContainerStatuses
  14=resize 15=resourceClaimStatuses 18=extendedResourceClaimStatus 19=allocatedResources 20=resources
  21=nodeAllocatableResourceClaimStatuses 22=volumeHealth
PodVolumeHealth 1=name 2=healthConditions 3=lastTransitionTime
PolicyRule 1=verbs 2=apiGroups 3=resources 4=resourceNames 5=nonResourceURLs
PortworxVolumeSource 1=volumeID 2=fsType 3=readOnly
Preconditions 1=uid 2=resourceVersion
PreferredSchedulingTerm 1=weight 2=preference
Probe 1>ProbeHandler 2=initialDelaySeconds 3=timeoutSeconds 4=periodSeconds 5=successThreshold 6=failureThreshold
  7=terminationGracePeriodSeconds
ProbeHandler 1=exec 2=httpGet 3=tcpSocket 4=grpc
ProjectedVolumeSource 1=sources 2=defaultMode 3=defaultUser
QuobyteVolumeSource 1=registry 2=volume 3=readOnly 4=user 5=group 6=tenant
RBDPersistentVolumeSource 1=monitors 2=image 3=fsType 4=pool 5=user 6=keyring 7=secretRef 8=readOnly
RBDVolumeSource 1=monitors 2=image 3=fsType 4=pool 5=user 6=keyring 7=secretRef 8=readOnly
ResourceAttributes 1=namespace 2=verb 3=group 4=version 5=resource 6=subresource 7=name 8=fieldSelector
  9=labelSelector
ResourceClaim 1=name 2=request
ResourceFieldSelector 1=containerName 2=resource 3=divisor
ResourceHealth 1=resourceID 2=health 6=message
ResourceRequirements 1=limits 2=requests 3=claims
ResourceRule 1=verbs 2=apiGroups 3=resources 4=resourceNames
ResourceStatus 1=name 2=resources
Role 1=metadata 2=rules
RoleBinding 1=metadata 2=subjects 3=roleRef
RoleRef 1=apiGroup 2=kind 3=name
SELinuxOptions 1=user 2=role 3=type 4=level
ScaleIOPersistentVolumeSource 1=gateway 2=system 3=secretRef 4=sslEnabled 5=protectionDomain 6=storagePool
  7=storageMode 8=volumeName 9=fsType 10=readOnly
ScaleIOVolumeSource 1=gateway 2=system 3=secretRef 4=sslEnabled 5=protectionDomain 6=storagePool 7=storageMode
  8=volumeName 9=fsType 10=readOnly
SeccompProfile 1=type 2=localhostProfile
Secret 1=metadata 5=immutable 2=data 4=stringData 3=type
SecretEnvSource 1>LocalObjectReference 2=optional
SecretKeySelector 1>LocalObjectReference 2=key 3=optional
SecretProjection 1>LocalObjectReference 2=items 4=optional
SecretReference 1=name 2=namespace
SecretVolumeSource 1=secretName 2=items 3=defaultMode 4=optional 5=defaultUser
SecurityContext 1=capabilities 2=privileged 3=seLinuxOptions 10=windowsOptions 4=runAsUser 8=runAsGroup 5=runAsNonRoot
  6=readOnlyRootFilesystem 7=allowPrivilegeEscalation 9=procMount 11=seccompProfile 12=appArmorProfile
SelfSubjectAccessReview 1=metadata 2=spec 3=status
SelfSubjectAccessReviewSpec 1=resourceAttributes 2=nonResourceAttributes
SelfSubjectReview 1=metadata 2=status
SelfSubjectReviewStatus 1=userInfo
SelfSubjectRulesReview 1=metadata 2=spec 3=status
SelfSubjectRulesReviewSpec 1=namespace
ServiceAccount 1=metadata 2=secrets 3=imagePullSecrets 4=automountServiceAccountToken
ServiceAccountTokenProjection 1=audience 2=expirationSeconds 3=path 4=user
SleepAction 1=seconds
StorageClass 1=metadata 2=provisioner 3=parameters 4=reclaimPolicy 5=mountOptions 6=allowVolumeExpansion
  7=volumeBindingMode 8=allowedTopologies
StorageHealth 1=name 2=healthConditions
StorageHealthCondition 1=status 2=reason 3=message 4=accessMode 5=volumeMode 6=lastTransitionTime
StorageOSPersistentVolumeSource 1=volumeName 2=volumeNamespace 3=fsType 4=readOnly 5=secretRef
StorageOSVolumeSource 1=volumeName 2=volumeNamespace 3=fsType 4=readOnly 5=secretRef
Subject 1=kind 2=apiGroup 3=name 4=namespace
SubjectAccessReview 1=metadata 2=spec 3=status
SubjectAccessReviewSpec 1=resourceAttributes 2=nonResourceAttributes 3=user 4=groups 5=extra 6=uid
SubjectAccessReviewStatus 1=allowed 4=denied 2=reason 3=evaluationError
SubjectRulesReviewStatus 1=resourceRules 2=nonResourceRules 3=incomplete 4=evaluationError
Sysctl 1=name 2=value
TCPSocketAction 1=port 2=host
Taint 1=key 2=value 3=effect 4=timeAdded
TokenRequest 1=audience 2=expirationSeconds
Toleration 1=key 2=operator 3=value 4=effect 5=tolerationSeconds
TopologySelectorLabelRequirement 1=key 2=values
TopologySelectorTerm 1=matchLabelExpressions
TopologySpreadConstraint 1=maxSkew 2=topologyKey 3=whenUnsatisfiable 4=labelSelector 5=minDomains 6=nodeAffinityPolicy
  7=nodeTaintsPolicy 8=matchLabelKeys
TypedLocalObjectReference 1=apiGroup 2=kind 3=name
TypedObjectReference 1=apiGroup 2=kind 3=name 4=namespace
UserInfo 1=username 2=uid 3=groups 4=extra
Volume 1=name 2>VolumeSource
VolumeAttachment 1=metadata 2=spec 3=status
VolumeAttachmentSource 1=persistentVolumeName 2=inlineVolumeSpec
VolumeAttachmentSpec 1=attacher 2=source 3=nodeName
VolumeAttachmentStatus 1=attached 2=attachmentMetadata 3=attachError 4=detachError
VolumeAttributesClass 1=metadata 2=driverName 3=parameters
VolumeDevice 1=name 2=devicePath
VolumeError 1=time 2=message 3=errorCode
VolumeHealthCondition 1=status 2=reason 3=message
VolumeHealthStatus 1=healthConditions 2=lastTransitionTime
VolumeMount 1=name 2=readOnly 7=recursiveReadOnly 3=mountPath 4=subPath 5=mountPropagation 6=subPathExpr
  8=bindMountOptions
VolumeMountStatus 1=name 2=mountPath 3=readOnly 4=recursiveReadOnly 5=volumeStatus
VolumeNodeAffinity 1=required
VolumeNodeResources 1=count
VolumeProjection 1=secret 2=downwardAPI 3=configMap 4=serviceAccountToken 5=clusterTrustBundle 6=podCertificate
VolumeResourceRequirements 1=limits 2=requests
VolumeSource 1=hostPath 2=emptyDir 3=gcePersistentDisk 4=awsElasticBlockStore 5=gitRepo 6=secret 7=nfs 8=iscsi
  9=glusterfs 10=persistentVolumeClaim 11=rbd 12=flexVolume 13=cinder 14=cephfs 15=flocker 16=downwardAPI 17=fc
  18=azureFile 19=configMap 20=vsphereVolume 21=quobyte 22=azureDisk 23=photonPersistentDisk 26=projected
  24=portworxVolume 25=scaleIO 27=storageos 28=csi 29=ephemeral 30=image
VolumeStatus 1=image
VsphereVirtualDiskVolumeSource 1=volumePath 2=fsType 3=storagePolicyName 4=storagePolicyID
WeightedPodAffinityTerm 1=weight 2=podAffinityTerm
WindowsSecurityContextOptions 1=gmsaCredentialSpecName 2=gmsaCredentialSpec 3=runAsUserName 4=hostProcess
"""
